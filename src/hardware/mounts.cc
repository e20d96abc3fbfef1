#include "hardware/mounts.h"

#include <algorithm>

#include "hardware/text_fields.h"

namespace yoke::hardware {
namespace {

constexpr std::size_t kMostMounts = 4096;
constexpr std::size_t kMostCgroups = 64;
constexpr std::size_t kDeepest = 64;

// White space and backslashes stand in mountinfo as three octal digits behind a backslash.
std::string unescaped(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const auto octal = text.front() == '\\' && text.size() >= 4 ? parse_digits(text.substr(1, 3), 8)
                                                                : std::nullopt;
    if (octal && *octal > 0 && *octal < 256) {
      result.push_back(static_cast<char>(*octal));
      text.remove_prefix(4);
    } else {
      result.push_back(text.front());
      text.remove_prefix(1);
    }
  }
  return result;
}

}  // namespace

std::vector<Mount> parse_mounts(std::string_view mountinfo) {
  std::vector<Mount> mounts;
  while (!mountinfo.empty() && mounts.size() < kMostMounts) {
    std::string_view line = take_line(mountinfo);
    for (int skipped = 0; skipped < 3; ++skipped) take_word(line);  // Ids and the device.
    Mount mount;
    mount.root = unescaped(take_word(line));
    mount.point = unescaped(take_word(line));
    std::string_view word = take_word(line);
    while (!word.empty() && word != "-") word = take_word(line);
    mount.type = std::string(take_word(line));
    take_word(line);  // The source.
    mount.options = std::string(take_word(line));
    if (mount.point.starts_with('/') && !mount.options.empty()) mounts.push_back(std::move(mount));
  }
  return mounts;
}

std::vector<CgroupPath> parse_cgroups(std::string_view text) {
  std::vector<CgroupPath> cgroups;
  while (!text.empty() && cgroups.size() < kMostCgroups) {
    const std::string_view line = take_line(text);
    const std::size_t first = line.find(':');
    if (first == std::string_view::npos) continue;
    const std::size_t second = line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view path = line.substr(second + 1);
    if (!path.starts_with('/')) continue;
    cgroups.push_back({.controllers = std::string(line.substr(first + 1, second - first - 1)),
                       .path = std::string(path)});
  }
  return cgroups;
}

bool lists(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const std::string_view item = list.substr(0, list.find(','));
    if (item == word) return true;
    list.remove_prefix(std::min(item.size() + 1, list.size()));
  }
  return false;
}

std::vector<std::string> cgroup_directories(const Mount& mount, std::string_view path) {
  std::vector<std::string> directories{mount.point};
  if (mount.root != "/") {
    if (!path.starts_with(mount.root)) return directories;
    path.remove_prefix(mount.root.size());
    if (!path.empty() && path.front() != '/') return directories;
  }
  while (!path.empty() && directories.size() < kDeepest) {
    path.remove_prefix(1);  // The slash.
    const std::string_view name = path.substr(0, path.find('/'));
    path.remove_prefix(name.size());
    if (name == "..") return {mount.point};
    if (!name.empty() && name != ".") {
      directories.push_back(directories.back() + "/" + std::string(name));
    }
  }
  return directories;
}

}  // namespace yoke::hardware
