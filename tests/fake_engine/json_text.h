// Just enough JSON to read a request and write a reply: values stay slices of the text they came
// from. Pure; callable from every thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fake_engine::json {

// Deeper documents are refused.
inline constexpr int kMaxDepth = 64;

using Members = std::map<std::string, std::string_view, std::less<>>;

// The members of an object, checked for syntax in one pass over all of `text`. Of a name that
// comes twice the last one counts. None if the text is not one well-formed object.
std::optional<Members> read_object(std::string_view text);

// The last element of an array; none if it is empty or no array.
std::optional<std::string_view> last_element(std::string_view array);

// The elements of an array; none if it is no array.
std::optional<std::vector<std::string_view>> elements(std::string_view array);

// How many elements an array has; none if it is no array.
std::optional<int64_t> count_elements(std::string_view array);

// The values behind a slice; none if it is of another type (or, for numbers, out of range).
std::optional<std::string> as_string(std::string_view value);
std::optional<int64_t> as_integer(std::string_view value);
bool is_true(std::string_view value);

// A JSON string with its quotes.
std::string quote(std::string_view text);

}  // namespace fake_engine::json
