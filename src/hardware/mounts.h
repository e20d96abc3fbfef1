// /proc/self/mountinfo and /proc/self/cgroup: what tells a container from a machine and finds its
// limits. Parsers of text in memory; pure, any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace yoke::hardware {

struct Mount {
  std::string root;     // What of its file system is mounted.
  std::string point;    // Where.
  std::string type;     // "ext4", "overlay", "cgroup2"
  std::string options;  // Of the file system: a v1 cgroup's controllers are here.
};
// At most 4096 of them; malformed lines are passed over.
std::vector<Mount> parse_mounts(std::string_view mountinfo);

// The cgroup of a process in one hierarchy.
struct CgroupPath {
  std::string controllers;  // "cpu,cpuacct"; empty: the unified hierarchy, v2.
  std::string path;         // "/user.slice/user-1000.slice"
};
std::vector<CgroupPath> parse_cgroups(std::string_view text);

// If a list with commas holds `word`.
bool lists(std::string_view list, std::string_view word);

// The directories of a cgroup below one mount of its hierarchy, the outermost first: limits of all
// of them count. A path that is not below the mount, as seen from within a namespace, is the mount.
std::vector<std::string> cgroup_directories(const Mount& mount, std::string_view path);

}  // namespace yoke::hardware
