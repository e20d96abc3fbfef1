// Limits of control groups, v1 and v2: each directory on the way from the hierarchy's root to the
// process may have one, and all of them count.
#include <algorithm>
#include <string>

#include <fmt/format.h>

#include "hardware/host_parts.h"
#include "hardware/text_fields.h"

namespace yoke::hardware {
namespace {

template <class T>
void lower(std::optional<T>& limit, std::optional<T> other) {
  if (other) limit = limit ? std::min(*limit, *other) : *other;
}

// The files of one version.
struct MemoryNames {
  std::vector<std::string_view> limits;
  std::string_view usage;
  std::string_view reclaimable;  // A line of memory.stat.
};
const MemoryNames kMemoryV1{.limits = {"memory.limit_in_bytes"},
                            .usage = "memory.usage_in_bytes",
                            .reclaimable = "total_inactive_file"};
// Above memory.high a process is not killed but slowed until it is of no use.
const MemoryNames kMemoryV2{.limits = {"memory.max", "memory.high"},
                            .usage = "memory.current",
                            .reclaimable = "inactive_file"};

std::optional<std::uint64_t> read_limit(const NotedFiles& files, const std::string& path) {
  const auto line = files.line(path);
  if (!line || *line == "max") return std::nullopt;
  const auto bytes = parse_digits(*line, 10);
  if (!bytes) {
    files.note(fmt::format("{} holds no limit: '{}'.", printable(path, 256), printable(*line)));
  }
  // v1 has no word for "none" but the largest number of whole pages.
  return bytes && *bytes <= kLargestSize ? bytes : std::nullopt;
}

// What the kernel would not take from page cache first.
std::uint64_t read_usage(const NotedFiles& files, const std::string& directory,
                         const MemoryNames& names) {
  const std::uint64_t used = files.size(fmt::format("{}/{}", directory, names.usage)).value_or(0);
  const auto stat = files.read(directory + "/memory.stat");
  const auto line = stat ? field(*stat, names.reclaimable, ' ') : std::nullopt;
  const std::uint64_t reclaimable = line ? parse_digits(*line, 10).value_or(0) : 0;
  return used - std::min(used, reclaimable);
}

void add_memory(const NotedFiles& files, const std::string& directory, const MemoryNames& names,
                CgroupLimits& limits) {
  std::optional<std::uint64_t> limit;
  for (const std::string_view name : names.limits) {
    lower(limit, read_limit(files, fmt::format("{}/{}", directory, name)));
  }
  if (!limit) return;
  lower(limits.memory, limit);
  const std::uint64_t used = read_usage(files, directory, names);
  lower(limits.headroom, std::optional(*limit - std::min(*limit, used)));
}

void add_cpu_v2(const NotedFiles& files, const std::string& directory, CgroupLimits& limits) {
  const auto line = files.line(directory + "/cpu.max");
  if (!line) return;
  const auto [cpus, valid] = parse_cpu_max(*line);
  lower(limits.cpus, cpus);
  if (!valid) {
    files.note(fmt::format("{}/cpu.max holds no limit: '{}'.", printable(directory, 256),
                           printable(*line)));
  }
}

void add_cpu_v1(const NotedFiles& files, const std::string& directory, CgroupLimits& limits) {
  const auto quota = files.line(directory + "/cpu.cfs_quota_us");
  if (!quota || *quota == "-1") return;
  const auto period = files.line(directory + "/cpu.cfs_period_us");
  const auto [cpus, valid] = parse_cpu_max(*quota + " " + period.value_or(""));
  lower(limits.cpus, cpus);
  if (!valid) {
    files.note(fmt::format("{}/cpu.cfs_quota_us holds no limit: '{}'.", printable(directory, 256),
                           printable(*quota)));
  }
}

std::vector<std::string> directories_of(const std::vector<Mount>& mounts,
                                        const std::vector<CgroupPath>& cgroups,
                                        std::string_view controller) {
  const bool unified = controller.empty();
  const auto cgroup = std::ranges::find_if(cgroups, [&](const CgroupPath& c) {
    return unified ? c.controllers.empty() : lists(c.controllers, controller);
  });
  const auto mount = std::ranges::find_if(mounts, [&](const Mount& m) {
    return unified ? m.type == "cgroup2" : m.type == "cgroup" && lists(m.options, controller);
  });
  if (cgroup == cgroups.end() || mount == mounts.end()) return {};
  return cgroup_directories(*mount, cgroup->path);
}

}  // namespace

std::pair<std::optional<double>, bool> parse_cpu_max(std::string_view text) {
  const std::string_view quota = take_word(text);
  const std::string_view period = take_word(text);
  if (quota == "max") return {std::nullopt, true};
  const auto time = parse_digits(quota, 10);
  const auto of = parse_digits(period, 10);
  if (!time || !of || *time == 0 || *of == 0) return {std::nullopt, false};
  return {static_cast<double>(*time) / static_cast<double>(*of), true};
}

CgroupLimits read_cgroup_limits(const NotedFiles& files, const std::vector<Mount>& mounts,
                                const std::vector<CgroupPath>& cgroups) {
  CgroupLimits limits;
  for (const std::string& directory : directories_of(mounts, cgroups, "")) {
    add_cpu_v2(files, directory, limits);
    add_memory(files, directory, kMemoryV2, limits);
  }
  for (const std::string& directory : directories_of(mounts, cgroups, "cpu")) {
    add_cpu_v1(files, directory, limits);
  }
  for (const std::string& directory : directories_of(mounts, cgroups, "memory")) {
    add_memory(files, directory, kMemoryV1, limits);
  }
  return limits;
}

}  // namespace yoke::hardware
