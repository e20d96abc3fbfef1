// Taking apart the small text files that describe a system, beside hardware/text_fields.h.
// Pure; any thread. Views point into the text that was given.
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace yoke::doctor {

// Lines without their end; a last one without line feed counts.
std::vector<std::string_view> lines_of(std::string_view text);
// What stands between blanks and tabs.
std::vector<std::string_view> words_of(std::string_view line);
std::vector<std::string_view> split(std::string_view text, char separator);

// All of `text` is one decimal number that fits.
template <class Integer>
std::optional<Integer> number_of(std::string_view text) {
  Integer value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

}  // namespace yoke::doctor
