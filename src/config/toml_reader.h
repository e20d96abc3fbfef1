// Reading a TOML table into fields with defaults. A mistake does not end the reading: it is put
// down with its line, the field keeps its default, and the user sees all mistakes at once. Private
// to config, the only place that knows toml++. One thread at a time.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <toml++/toml.h>

#include "base/error.h"

namespace yoke::config {

// Sizes beyond this are mistakes.
inline constexpr std::uint64_t kMaxMemory = 1ull << 50;

// A key as it stands in a table header: 'a.b' needs quotes there.
std::string quoted_key(std::string_view key);

// The mistakes found in one file.
class Problems {
 public:
  explicit Problems(std::filesystem::path file) : file_(std::move(file)) {}

  // Line 0: about the file as a whole. `text` must not hold a secret.
  void add(int line, ErrorCode code, std::string text);
  void add_at(int line, int column, ErrorCode code, std::string text);
  bool empty() const { return problems_.empty(); }
  // All of them by line, one each: "FILE:LINE: text". The code is theirs if they share one.
  Error to_error() const;

 private:
  struct Problem {
    int line;
    int column;
    ErrorCode code;
    std::string text;
  };
  std::filesystem::path file_;
  std::vector<Problem> problems_;
};

// One table. Refers to the parsed document and to `problems`. The keys it is asked for are the ones
// it knows; reject_unknown() reports the others, so ask for all of them first.
class TomlTable {
 public:
  // `name` as the file writes it: "[server]"; empty for the document.
  TomlTable(const toml::table& table, std::string name, Problems& problems)
      : table_(&table), name_(std::move(name)), problems_(&problems) {}

  // Each sets `into` and returns true if the key is there and has a good value.
  bool read(std::string_view key, std::string& into);
  bool read(std::string_view key, bool& into);
  bool read(std::string_view key, std::vector<std::string>& into);
  bool read(std::string_view key, std::filesystem::path& into);  // "~/" is the home directory.
  bool read(std::string_view key, std::vector<std::filesystem::path>& into);
  // A finite number with or without a fraction, from `min` to `max`.
  bool read(std::string_view key, double& into, double min, double max);
  // Finite numbers from 0 on.
  bool read(std::string_view key, std::vector<double>& into);
  // A duration such as "5m", from `min` on.
  bool read(std::string_view key, std::chrono::milliseconds& into, std::chrono::milliseconds min);
  // A size such as "64MiB", from `min` to `max` bytes.
  bool read_size(std::string_view key, std::uint64_t& into, std::uint64_t min, std::uint64_t max);

  template <std::integral T>
  bool read(std::string_view key, T& into, std::int64_t min, std::int64_t max) {
    const auto value = integer(key, min, max);
    if (value) into = static_cast<T>(*value);
    return value.has_value();
  }

  template <class E>
  using Choices = std::span<const std::pair<std::string_view, E>>;

  template <class E>
  bool read(std::string_view key, E& into, std::type_identity_t<Choices<E>> choices) {
    std::string text;
    if (!read(key, text)) return false;
    std::vector<std::string_view> allowed;
    for (const auto& [name, value] : choices) {
      if (name == text) {
        into = value;
        return true;
      }
      allowed.push_back(name);
    }
    refuse_choice(key, text, allowed);
    return false;
  }

  // A string that has to be one of `allowed`.
  bool read_one_of(std::string_view key, std::string& into,
                   std::span<const std::string_view> allowed);

  // The table of that key; nullopt if it is absent or no table.
  std::optional<TomlTable> table(std::string_view key);
  // All tables in it by their keys, in the file's order; anything else is a mistake.
  std::vector<std::pair<std::string, TomlTable>> tables();
  // Those that are written as [[key]] again and again, in the file's order.
  std::vector<TomlTable> tables_of(std::string_view key);

  void reject_unknown();

  bool has(std::string_view key) const { return table_->contains(key); }
  // Where the key stands, or the table if it doesn't.
  int line_of(std::string_view key) const;
  int line() const { return static_cast<int>(table_->source().begin.line); }
  // A mistake in the value of `key`: "'KEY' in [TABLE]: text".
  void refuse(std::string_view key, std::string_view text);

 private:
  const toml::node* find(std::string_view key);
  std::optional<std::int64_t> integer(std::string_view key, std::int64_t min, std::int64_t max);
  // An empty path is a mistake.
  std::optional<std::filesystem::path> path_of(std::string_view key, const std::string& text);
  void refuse_choice(std::string_view key, std::string_view text,
                     std::span<const std::string_view> allowed);
  void refuse_type(std::string_view key, std::string_view expected, const toml::node& found);
  std::string place() const { return name_.empty() ? std::string() : " in " + name_; }

  const toml::table* table_;
  std::string name_;
  Problems* problems_;
  std::vector<std::string> known_;
};

// Parses a document. A syntax error is put down in `problems`, without quoting what may be a key.
std::optional<toml::table> parse_toml(std::string_view text, Problems& problems);

}  // namespace yoke::config
