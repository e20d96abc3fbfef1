// The small parsers that all readers of the kernel's text files share. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace yoke::hardware {

// Without the white space around it.
std::string_view trim(std::string_view text);

// Decimal or, after 0x, hexadecimal; nothing if any other character is in it or it is too large.
std::optional<std::uint64_t> parse_number(std::string_view text);

// The same with a base of 2 to 36 and without a prefix.
std::optional<std::uint64_t> parse_digits(std::string_view text, int base);

// Cuts the first line off `text`; without its newline.
std::string_view take_line(std::string_view& text);

// Cuts the first word off `text`; empty if only white space is left.
std::string_view take_word(std::string_view& text);

// What stands behind `key` and `separator` in the first line that has them ("MemTotal", ':'),
// trimmed. White space may stand around the key.
std::optional<std::string_view> field(std::string_view text, std::string_view key, char separator);

// The kernel's lists of numbers: "0-3,8" is {0, 1, 2, 3, 8}. Nothing if it is malformed or names
// anything above 8191, the kernel's limit of processors.
std::optional<std::vector<int>> parse_number_list(std::string_view text);

// At most `longest` characters, with control and non-ASCII bytes as '?': foreign text to be shown.
std::string printable(std::string_view text, std::size_t longest = 80);

}  // namespace yoke::hardware
