// The parsers behind read_host(), of text in memory. Bounded and without exceptions: what is
// malformed is absent or passed over. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hardware/host.h"

namespace yoke::hardware {

struct OsRelease {
  std::string pretty_name;
  std::string id;
  std::string id_like;
};
OsRelease parse_os_release(std::string_view text);

// /proc/cmdline as the kernel cuts it: double quotes keep white space together and are dropped,
// and what follows "--" is init's.
std::vector<std::string> parse_kernel_arguments(std::string_view text);

// Total, available and swap in bytes; nothing without a MemTotal.
std::optional<HostMemory> parse_meminfo(std::string_view text);

// What all processors have in common, and how many there are.
struct CpuInfo {
  std::string name;  // Empty if nothing names it.
  int processors = 0;
  int cores = 0;    // 0 where the file does not tell, as on ARM.
  int sockets = 0;  // The same.
  bool avx2 = false;
  bool avx512 = false;
  bool avx512_bf16 = false;
  bool avx512_vnni = false;
  bool amx = false;
};
CpuInfo parse_cpuinfo(std::string_view text);

}  // namespace yoke::hardware
