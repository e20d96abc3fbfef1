#include "base/json_text.h"

#include <algorithm>
#include <cmath>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

namespace yoke {
namespace {

namespace json = boost::json;

constexpr std::size_t kLineWidth = 100;
constexpr std::size_t kIndent = 2;

std::string number_text(double number) {
  if (!std::isfinite(number)) return "null";  // JSON has neither infinities nor NaN.
  return fmt::format("{}", number);
}

void append(std::string& out, const json::value& value) {
  const char* separator = "";
  if (const auto* object = value.if_object()) {
    out += '{';
    for (const auto& [name, member] : *object) {
      out.append(separator).append(json::serialize(name)).append(":");
      append(out, member);
      separator = ",";
    }
    out += '}';
  } else if (const auto* array = value.if_array()) {
    out += '[';
    for (const auto& element : *array) {
      out += separator;
      append(out, element);
      separator = ",";
    }
    out += ']';
  } else if (const auto* number = value.if_double()) {
    out += number_text(*number);
  } else {
    out += json::serialize(value);
  }
}

void append_pretty(std::string& out, const json::value& value, std::size_t level) {
  const bool has_parts = (value.is_object() && !value.get_object().empty()) ||
                         (value.is_array() && !value.get_array().empty());
  const std::string line = json_text(value);
  if (!has_parts || level * kIndent + line.size() <= kLineWidth) {
    out += line;
    return;
  }
  const std::string indent(kIndent * (level + 1), ' ');
  const char* separator = "\n";
  out += value.is_object() ? '{' : '[';
  if (const auto* object = value.if_object()) {
    for (const auto& [name, member] : *object) {
      out.append(separator).append(indent).append(json::serialize(name)).append(": ");
      append_pretty(out, member, level + 1);
      separator = ",\n";
    }
  } else {
    for (const auto& element : value.get_array()) {
      out.append(separator).append(indent);
      append_pretty(out, element, level + 1);
      separator = ",\n";
    }
  }
  out.append("\n").append(kIndent * level, ' ');
  out += value.is_object() ? '}' : ']';
}

// The length of the UTF-8 sequence at the front of `text`; 0 if there is none.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return 1;
  const std::size_t length = byte(0) < 0xc2   ? 0
                             : byte(0) < 0xe0 ? 2
                             : byte(0) < 0xf0 ? 3
                             : byte(0) < 0xf5 ? 4
                                              : 0;
  if (length == 0 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const bool overlong = (byte(0) == 0xe0 && byte(1) < 0xa0) || (byte(0) == 0xf0 && byte(1) < 0x90);
  const bool no_character =
      (byte(0) == 0xed && byte(1) >= 0xa0) || (byte(0) == 0xf4 && byte(1) >= 0x90);
  return overlong || no_character ? 0 : length;
}

}  // namespace

std::string json_text(const json::value& value) {
  std::string out;
  append(out, value);
  return out;
}

std::string pretty_json_text(const json::value& value) {
  std::string out;
  append_pretty(out, value, 0);
  return out;
}

json::string utf8_json(std::string_view text) {
  json::string valid;
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    const std::string_view piece = length > 0 ? text.substr(0, length) : "\xef\xbf\xbd";
    valid.append({piece.data(), piece.size()});
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return valid;
}

}  // namespace yoke
