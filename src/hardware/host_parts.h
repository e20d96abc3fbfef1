// The parts that read_host() puts together. Blocking reads of small files; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "hardware/host.h"
#include "hardware/mounts.h"
#include "hardware/noted_files.h"

namespace yoke::hardware {

// Without the cgroup's quota.
Cpu read_cpu(const NotedFiles& files);

struct CgroupLimits {
  std::optional<double> cpus;             // Processors' worth of time.
  std::optional<std::uint64_t> memory;    // Bytes; the tightest of all nested limits.
  std::optional<std::uint64_t> headroom;  // Bytes until one of them is reached.
};
CgroupLimits read_cgroup_limits(const NotedFiles& files, const std::vector<Mount>& mounts,
                                const std::vector<CgroupPath>& cgroups);

// A v2 cpu.max, "200000 100000" or "max 100000": processors' worth of time, nothing without a
// limit. second is false if it is malformed.
std::pair<std::optional<double>, bool> parse_cpu_max(std::string_view text);

// `real`: the process's own environment may be asked too.
Container read_container(const NotedFiles& files, const std::vector<Mount>& mounts,
                         const std::vector<CgroupPath>& cgroups, bool real);

}  // namespace yoke::hardware
