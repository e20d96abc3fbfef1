#include "base/json_text.h"

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

}  // namespace yoke
