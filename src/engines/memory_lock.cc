#include "engines/memory_lock.h"

#include <charconv>
#include <fstream>
#include <linux/capability.h>
#include <string>
#include <string_view>
#include <sys/resource.h>

namespace yoke::engines {
namespace {

bool may_lock_any_amount() {
  constexpr std::string_view kMark = "CapEff:\t";
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with(kMark)) continue;
    std::uint64_t mask = 0;
    std::from_chars(line.data() + kMark.size(), line.data() + line.size(), mask, 16);
    return (mask >> CAP_IPC_LOCK & 1) != 0;
  }
  return false;
}

}  // namespace

std::optional<std::uint64_t> memory_lock_limit() {
  if (may_lock_any_amount()) return std::nullopt;
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return 0;
  if (limit.rlim_cur == RLIM_INFINITY) return std::nullopt;
  return limit.rlim_cur;
}

}  // namespace yoke::engines
