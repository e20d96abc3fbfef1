#include "config/toml_reader.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>

#include <fmt/format.h>

#include "base/nearest.h"
#include "base/paths.h"
#include "base/units.h"
#include "config/config.h"

namespace yoke::config {
namespace {

// Tables of tables whose names are the user's.
constexpr std::array<std::string_view, 2> kNamedTables{"[models.", "[groups."};

std::string_view type_name(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a number with a fraction";
    case toml::node_type::boolean:
      return "true or false";
    default:
      return "a date or time";
  }
}

// Whole numbers are numbers too.
std::optional<double> number_of(const toml::node& node) {
  return node.is_number() ? node.value<double>() : std::nullopt;
}

std::string quoted_list(std::span<const std::string_view> names) {
  std::string list;
  for (std::string_view name : names) list += fmt::format("{}'{}'", list.empty() ? "" : ", ", name);
  return list;
}

std::string_view line_at(std::string_view text, int line) {
  for (; line > 1; --line) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
  return text.substr(0, text.find('\n'));
}

}  // namespace

std::string quoted_key(std::string_view key) {
  const bool bare = std::all_of(key.begin(), key.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_';
  });
  return bare && !key.empty() ? std::string(key) : fmt::format("\"{}\"", key);
}

void Problems::add(int line, ErrorCode code, std::string text) {
  add_at(line, 0, code, std::move(text));
}

void Problems::add_at(int line, int column, ErrorCode code, std::string text) {
  problems_.push_back({line, column, code, std::move(text)});
}

Error Problems::to_error() const {
  std::vector<Problem> sorted = problems_;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Problem& a, const Problem& b) { return a.line < b.line; });
  Error error{sorted.empty() ? kConfigInvalid : sorted.front().code, {}};
  for (const Problem& problem : sorted) {
    if (!(problem.code == error.code)) error.code = kConfigInvalid;
    if (!error.message.empty()) error.message += '\n';
    error.message += file_.string();
    if (problem.line > 0) error.message += fmt::format(":{}", problem.line);
    if (problem.column > 0) error.message += fmt::format(":{}", problem.column);
    error.message += ": " + problem.text;
  }
  return error;
}

const toml::node* TomlTable::find(std::string_view key) {
  known_.emplace_back(key);
  return table_->get(key);
}

int TomlTable::line_of(std::string_view key) const {
  const toml::node* node = table_->get(key);
  return node != nullptr ? static_cast<int>(node->source().begin.line) : line();
}

void TomlTable::refuse(std::string_view key, std::string_view text) {
  problems_->add(line_of(key), kConfigInvalid, fmt::format("'{}'{}: {}", key, place(), text));
}

void TomlTable::refuse_type(std::string_view key, std::string_view expected,
                            const toml::node& found) {
  refuse(key, fmt::format("expected {}, found {}.", expected, type_name(found)));
}

void TomlTable::refuse_choice(std::string_view key, std::string_view text,
                              std::span<const std::string_view> allowed) {
  refuse(key, fmt::format("'{}' is not one of {}.", text, quoted_list(allowed)));
}

bool TomlTable::read(std::string_view key, std::string& into) {
  const toml::node* node = find(key);
  if (node == nullptr) return false;
  const auto value = node->value_exact<std::string>();
  if (!value) {
    refuse_type(key, "a string", *node);
    return false;
  }
  into = *value;
  return true;
}

bool TomlTable::read(std::string_view key, bool& into) {
  const toml::node* node = find(key);
  if (node == nullptr) return false;
  const auto value = node->value_exact<bool>();
  if (!value) {
    refuse_type(key, "true or false", *node);
    return false;
  }
  into = *value;
  return true;
}

bool TomlTable::read(std::string_view key, std::vector<std::string>& into) {
  const toml::node* node = find(key);
  if (node == nullptr) return false;
  const toml::array* array = node->as_array();
  if (array == nullptr) {
    refuse_type(key, "an array of strings", *node);
    return false;
  }
  std::vector<std::string> strings;
  for (const toml::node& element : *array) {
    const auto value = element.value_exact<std::string>();
    if (!value) {
      refuse_type(key, "an array of strings", element);
      return false;
    }
    strings.push_back(*value);
  }
  into = std::move(strings);
  return true;
}

bool TomlTable::read(std::string_view key, std::filesystem::path& into) {
  std::string text;
  if (!read(key, text)) return false;
  auto path = path_of(key, text);
  if (path) into = std::move(*path);
  return path.has_value();
}

bool TomlTable::read(std::string_view key, std::vector<std::filesystem::path>& into) {
  std::vector<std::string> texts;
  if (!read(key, texts)) return false;
  std::vector<std::filesystem::path> paths;
  for (const std::string& text : texts) {
    auto path = path_of(key, text);
    if (!path) return false;
    paths.push_back(std::move(*path));
  }
  into = std::move(paths);
  return true;
}

bool TomlTable::read(std::string_view key, double& into, double min, double max) {
  const toml::node* node = find(key);
  if (node == nullptr) return false;
  const auto value = number_of(*node);
  if (!value) {
    refuse_type(key, "a number", *node);
    return false;
  }
  // Also false for NaN.
  if (!(*value >= min && *value <= max)) {
    refuse(key, fmt::format("{} is not between {} and {}.", *value, min, max));
    return false;
  }
  into = *value;
  return true;
}

bool TomlTable::read(std::string_view key, std::vector<double>& into) {
  constexpr std::string_view kExpected = "an array of numbers";
  const toml::node* node = find(key);
  if (node == nullptr) return false;
  const toml::array* array = node->as_array();
  if (array == nullptr) {
    refuse_type(key, kExpected, *node);
    return false;
  }
  std::vector<double> numbers;
  for (const toml::node& element : *array) {
    const auto value = number_of(element);
    if (!value) {
      refuse_type(key, kExpected, element);
      return false;
    }
    if (!std::isfinite(*value) || *value < 0) {
      refuse(key, fmt::format("{} is no number from 0 on.", *value));
      return false;
    }
    numbers.push_back(*value);
  }
  into = std::move(numbers);
  return true;
}

bool TomlTable::read(std::string_view key, std::chrono::milliseconds& into,
                     std::chrono::milliseconds min) {
  std::string text;
  if (!read(key, text)) return false;
  const auto duration = parse_duration(text);
  if (!duration) {
    refuse(key, duration.error().text());
    return false;
  }
  if (*duration < min) {
    refuse(key, fmt::format("'{}' is too short, the least is {}.", text, format_duration(min)));
    return false;
  }
  into = *duration;
  return true;
}

bool TomlTable::read_size(std::string_view key, std::uint64_t& into, std::uint64_t min,
                          std::uint64_t max) {
  const toml::node* node = find(key);
  std::string text;
  if (node != nullptr && node->is_integer()) {
    text = std::to_string(node->value_exact<std::int64_t>().value());
  } else if (!read(key, text)) {
    return false;
  }
  const auto bytes = parse_bytes(text);
  if (!bytes) {
    refuse(key, bytes.error().text());
    return false;
  }
  if (*bytes < min || *bytes > max) {
    refuse(key, fmt::format("'{}' is not between {} and {}.", text, format_bytes(min),
                            format_bytes(max)));
    return false;
  }
  into = *bytes;
  return true;
}

std::optional<std::int64_t> TomlTable::integer(std::string_view key, std::int64_t min,
                                               std::int64_t max) {
  const toml::node* node = find(key);
  if (node == nullptr) return std::nullopt;
  const auto value = node->value_exact<std::int64_t>();
  if (!value) {
    refuse_type(key, "an integer", *node);
    return std::nullopt;
  }
  if (*value < min || *value > max) {
    refuse(key, fmt::format("{} is not between {} and {}.", *value, min, max));
    return std::nullopt;
  }
  return value;
}

std::optional<std::filesystem::path> TomlTable::path_of(std::string_view key,
                                                        const std::string& text) {
  if (text.empty() || text.find('\0') != std::string::npos) {
    refuse(key, "expected a path.");
    return std::nullopt;
  }
  return expand_home(text);
}

bool TomlTable::read_one_of(std::string_view key, std::string& into,
                            std::span<const std::string_view> allowed) {
  std::string text;
  if (!read(key, text)) return false;
  if (std::find(allowed.begin(), allowed.end(), text) == allowed.end()) {
    refuse_choice(key, text, allowed);
    return false;
  }
  into = std::move(text);
  return true;
}

std::optional<TomlTable> TomlTable::table(std::string_view key) {
  const toml::node* node = find(key);
  if (node == nullptr) return std::nullopt;
  const toml::table* table = node->as_table();
  if (table == nullptr) {
    refuse_type(key, "a table", *node);
    return std::nullopt;
  }
  return TomlTable(*table, fmt::format("[{}]", key), *problems_);
}

std::vector<std::pair<std::string, TomlTable>> TomlTable::tables() {
  std::vector<std::pair<std::string, TomlTable>> found;
  const std::string parent = name_.size() > 2 ? name_.substr(1, name_.size() - 2) : name_;
  for (const auto& [key, node] : *table_) {
    const std::string name(key.str());
    known_.push_back(name);
    if (const toml::table* table = node.as_table()) {
      found.emplace_back(
          name, TomlTable(*table, fmt::format("[{}.{}]", parent, quoted_key(name)), *problems_));
    } else {
      refuse_type(name, "a table", node);
    }
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.second.line() < b.second.line(); });
  return found;
}

std::vector<TomlTable> TomlTable::tables_of(std::string_view key) {
  const toml::node* node = find(key);
  if (node == nullptr) return {};
  const std::string parent = name_.empty() ? "" : name_.substr(2, name_.size() - 4) + ".";
  const std::string name = fmt::format("[[{}{}]]", parent, key);
  const toml::array* array = node->as_array();
  if (array == nullptr) {
    refuse(key, fmt::format("write it in double brackets, as {}: there may be several.", name));
    return {};
  }
  std::vector<TomlTable> found;
  for (const toml::node& element : *array) {
    if (const toml::table* table = element.as_table()) {
      found.emplace_back(*table, name, *problems_);
    } else {
      refuse_type(key, fmt::format("tables, each as {}", name), element);
    }
  }
  return found;
}

void TomlTable::reject_unknown() {
  const std::vector<std::string_view> candidates(known_.begin(), known_.end());
  for (const auto& [key, node] : *table_) {
    if (std::find(known_.begin(), known_.end(), key.str()) != known_.end()) continue;
    std::string text = fmt::format("unknown key '{}'{}.", key.str(), place());
    const auto prefix = std::ranges::find_if(
        kNamedTables, [&](std::string_view start) { return name_.starts_with(start); });
    if (node.is_table() && prefix != kNamedTables.end()) {
      // TOML reads [models.qwen2.5] as the table '5' in [models.qwen2].
      text +=
          fmt::format(" A name with a dot needs quotes: {}\"{}.{}\"].", *prefix,
                      name_.substr(prefix->size(), name_.size() - prefix->size() - 1), key.str());
    } else if (const auto known = nearest(key.str(), candidates)) {
      text += fmt::format(" Did you mean '{}'?", *known);
    } else {
      text += fmt::format(" The keys are {}.", quoted_list(candidates));
    }
    problems_->add(static_cast<int>(key.source().begin.line), kConfigInvalid, std::move(text));
  }
}

std::optional<toml::table> parse_toml(std::string_view text, Problems& problems) {
  try {
    return toml::parse(text);
  } catch (const toml::parse_error& error) {
    const int line = static_cast<int>(error.source().begin.line);
    const int column = static_cast<int>(error.source().begin.column);
    // toml++ quotes what it could not read, such as a number too long for it.
    const bool secret = line_at(text, line).find("api_key") != std::string_view::npos;
    problems.add_at(line, column, kConfigInvalid,
                    secret ? "the value of this key can't be read. Put it in quotes, once."
                           : fmt::format("{}.", error.description()));
    return std::nullopt;
  }
}

}  // namespace yoke::config
