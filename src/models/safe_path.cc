#include "models/safe_path.h"

#include <algorithm>
#include <string>

#include <fmt/format.h>

namespace yoke::models {
namespace {

constexpr std::size_t kLongestPart = 240;  // File systems take 255, and ".part.json" comes behind.
constexpr std::size_t kLongestPath = 1024;

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

bool is_safe(std::string_view part) {
  return !part.empty() && part != "." && part != ".." && part.size() <= kLongestPart &&
         part.find('\\') == std::string_view::npos && std::ranges::none_of(part, is_control);
}

}  // namespace

Result<std::filesystem::path> safe_path(const std::filesystem::path& below, std::string_view path) {
  std::filesystem::path result = below;
  bool safe = path.size() <= kLongestPath;
  for (std::string_view rest = path; safe;) {
    const std::size_t end = std::min(rest.find('/'), rest.size());
    safe = is_safe(rest.substr(0, end));
    if (safe) result /= std::string(rest.substr(0, end));
    if (end == rest.size()) break;
    rest.remove_prefix(end + 1);
  }
  if (safe) return result;
  std::string shown(path.substr(0, 100));
  std::ranges::replace_if(shown, is_control, '?');
  return fail(kUnsafePath,
              fmt::format("The server names a file '{}', which is no safe path.", shown),
              "Nothing was written. Get the model from somebody you trust.");
}

}  // namespace yoke::models
