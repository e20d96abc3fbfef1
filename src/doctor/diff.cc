#include "doctor/diff.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "doctor/text.h"

namespace yoke::doctor {
namespace {

using Lines = std::vector<std::string_view>;

// Beyond this the table of common lengths gets large; all lines are then shown as replaced.
constexpr std::size_t kMostLines = 1000;

// lengths[i][j]: of the longest common subsequence of before[i..] and after[j..].
std::vector<std::vector<std::size_t>> common_lengths(const Lines& before, const Lines& after) {
  std::vector<std::vector<std::size_t>> lengths(before.size() + 1,
                                                std::vector<std::size_t>(after.size() + 1));
  if (std::max(before.size(), after.size()) > kMostLines) return lengths;
  for (std::size_t i = before.size(); i-- > 0;) {
    for (std::size_t j = after.size(); j-- > 0;) {
      lengths[i][j] = before[i] == after[j] ? lengths[i + 1][j + 1] + 1
                                            : std::max(lengths[i + 1][j], lengths[i][j + 1]);
    }
  }
  return lengths;
}

std::string body(const Lines& before, const Lines& after) {
  const auto lengths = common_lengths(before, after);
  std::string text;
  const auto add = [&](char mark, std::string_view line) {
    text += fmt::format("{}{}\n", mark, line);
  };
  std::size_t i = 0;
  std::size_t j = 0;
  while (i < before.size() || j < after.size()) {
    if (i < before.size() && j < after.size() && before[i] == after[j]) {
      add(' ', before[i]);
      ++i;
      ++j;
    } else if (j == after.size() || (i < before.size() && lengths[i + 1][j] >= lengths[i][j + 1])) {
      add('-', before[i++]);
    } else {
      add('+', after[j++]);
    }
  }
  return text;
}

std::string range(const Lines& lines) {
  return fmt::format("{},{}", lines.empty() ? 0 : 1, lines.size());
}

}  // namespace

std::string unified_diff(std::string_view path, const std::optional<std::string>& before,
                         const std::optional<std::string>& after) {
  if (before == after) return "";
  const Lines old_lines = lines_of(before ? std::string_view(*before) : std::string_view());
  const Lines new_lines = lines_of(after ? std::string_view(*after) : std::string_view());
  return fmt::format("--- {}\n+++ {}\n@@ -{} +{} @@\n{}", before ? path : "/dev/null",
                     after ? path : "/dev/null", range(old_lines), range(new_lines),
                     body(old_lines, new_lines));
}

}  // namespace yoke::doctor
