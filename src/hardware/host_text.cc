#include "hardware/host_text.h"

#include <algorithm>
#include <charconv>

#include "hardware/noted_files.h"
#include "hardware/text_fields.h"

namespace yoke::hardware {
namespace {

// A value of os-release: a word of a shell, so perhaps quoted, with backslashes before characters
// that are special there.
std::string unquoted(std::string_view value) {
  const bool quoted = value.size() >= 2 && (value.front() == '"' || value.front() == '\'') &&
                      value.back() == value.front();
  const bool literal = quoted && value.front() == '\'';
  if (quoted) value = value.substr(1, value.size() - 2);
  std::string result;
  for (std::size_t i = 0; i < value.size(); ++i) {
    if (value[i] == '\\' && !literal && i + 1 < value.size()) ++i;
    result.push_back(value[i]);
  }
  return printable(result);
}

std::string os_field(std::string_view text, std::string_view key) {
  const auto value = field(text, key, '=');
  return value ? unquoted(*value) : std::string();
}

// The number of a line such as "MemTotal:       24684096 kB", in bytes.
std::optional<std::uint64_t> kilobytes(std::string_view text, std::string_view key) {
  auto value = field(text, key, ':');
  if (!value) return std::nullopt;
  const auto number = parse_digits(take_word(*value), 10);
  if (!number || *number > kLargestSize / 1024) return std::nullopt;
  return *number * 1024;
}

// Cuts the next argument off `text`.
std::string take_argument(std::string_view& text) {
  std::string argument;
  bool quoted = false;
  while (!text.empty()) {
    const char c = text.front();
    text.remove_prefix(1);
    if (c == '"') {
      quoted = !quoted;
    } else if (!quoted && (c == ' ' || c == '\t' || c == '\n')) {
      break;
    } else {
      argument.push_back(c);
    }
  }
  return argument;
}

}  // namespace

OsRelease parse_os_release(std::string_view text) {
  return {.pretty_name = os_field(text, "PRETTY_NAME"),
          .id = os_field(text, "ID"),
          .id_like = os_field(text, "ID_LIKE")};
}

std::vector<std::string> parse_kernel_arguments(std::string_view text) {
  constexpr std::size_t kLongest = 4096;
  std::vector<std::string> arguments;
  while (!text.empty()) {
    const std::string argument = take_argument(text);
    if (argument == "--") break;
    if (!argument.empty()) arguments.push_back(printable(argument, kLongest));
  }
  return arguments;
}

std::optional<HostMemory> parse_meminfo(std::string_view text) {
  const auto total = kilobytes(text, "MemTotal");
  if (!total) return std::nullopt;
  HostMemory memory;
  memory.total = *total;
  memory.available =
      kilobytes(text, "MemAvailable").value_or(kilobytes(text, "MemFree").value_or(0));
  memory.available = std::min(memory.available, memory.total);
  memory.swap_total = kilobytes(text, "SwapTotal").value_or(0);
  memory.swap_free = std::min(kilobytes(text, "SwapFree").value_or(0), memory.swap_total);
  return memory;
}

std::optional<KernelVersion> parse_kernel_version(std::string_view text) {
  KernelVersion version;
  const char* at = text.data();
  const char* const end = at + text.size();
  for (int* const part : {&version.major, &version.minor, &version.patch}) {
    const auto [stop, error] = std::from_chars(at, end, *part);
    // from_chars() would take a sign.
    if (error != std::errc() || *at == '-') {
      if (part == &version.major) return std::nullopt;
      *part = 0;
      break;
    }
    at = stop;
    if (at == end || *at != '.') break;
    ++at;
  }
  return version;
}

}  // namespace yoke::hardware
