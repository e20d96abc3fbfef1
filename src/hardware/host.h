// The machine apart from its devices: kernel, processor, memory, container. All of it is read from
// files, so that it works on a copy of another machine's too. Plain values; any thread.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "hardware/host_files.h"

namespace yoke::hardware {

struct KernelVersion {
  int major = 0;
  int minor = 0;
  int patch = 0;
  friend auto operator<=>(const KernelVersion&, const KernelVersion&) = default;
};
// "6.18.4-arch1-1" is 6.18.4; what is missing is 0. Nothing if it does not begin with a number.
std::optional<KernelVersion> parse_kernel_version(std::string_view text);

struct Cpu {
  std::string name;           // "AMD Ryzen AI MAX+ 395 w/ Radeon 8060S"; never empty.
  int cores = 1;              // Physical ones.
  int threads = 1;            // Logical processors that are online.
  double usable_threads = 1;  // What affinity and the cgroup's quota leave of them.
  int sockets = 1;
  int numa_nodes = 1;
  bool avx2 = false;
  bool avx512 = false;  // F, BW, CD, DQ and VL, as engines ask for them.
  bool avx512_bf16 = false;
  bool avx512_vnni = false;
  bool amx = false;                        // AMX_TILE with INT8 or BF16.
  std::string governor;                    // "powersave"; empty if unknown.
  std::optional<double> memory_bandwidth;  // Bytes per second, if it was measured.
};

struct HostMemory {
  std::uint64_t total = 0;      // Bytes that the system sees: without a GPU's carve-out.
  std::uint64_t available = 0;  // MemAvailable, and not more than the cgroup leaves.
  std::uint64_t swap_total = 0;
  std::uint64_t swap_free = 0;
  std::optional<std::uint64_t> limit;  // The cgroup's, where it is below total.
};

struct Container {
  std::string kind;  // "docker", "podman", "lxc", "kubernetes", "systemd-nspawn"; empty: none.
};

struct Host {
  std::string os_name;  // PRETTY_NAME of os-release.
  std::string os_id;    // ID of it: "debian", "fedora", "arch".
  std::string os_like;  // ID_LIKE.
  std::string
      product;  // DMI's vendor and product: "Framework Desktop (AMD Ryzen AI Max 300 Series)".
  std::string kernel_text;
  std::optional<KernelVersion> kernel;
  std::vector<std::string> kernel_arguments;  // /proc/cmdline, quoted words kept whole.
  Cpu cpu;
  HostMemory memory;
  Container container;
  std::vector<std::string> notes;  // What could not be read, and why.
};

// Always succeeds: what can't be read stays at its default and is noted. Affinity, cgroup of this
// process and so on are taken from the files under the root too (/proc/self).
Host read_host(const HostFiles& files);

// Copies memory on `threads` threads, at most 32, and returns bytes per second (read plus written);
// 0 if it could not. Takes `at_most` bytes of memory: a processor with many caches needs more than
// this default to be measured rightly, a small container less. Blocks for less than 100 ms.
double measure_memory_bandwidth(int threads, std::uint64_t at_most = 256u << 20);

}  // namespace yoke::hardware
