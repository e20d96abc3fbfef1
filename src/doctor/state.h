// SystemState: what the doctor's checks look at beyond the detected Machine. It is read once, from
// files alone, so that a copy of another machine's files gives that machine's state.
// A plain value; any thread. read_state() blocks for small reads, and for the package database.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

#include "doctor/cuda_libraries.h"
#include "doctor/distribution.h"
#include "hardware/backend_verdicts.h"
#include "hardware/host_files.h"
#include "hardware/machine.h"

namespace yoke::doctor {

inline constexpr std::uint64_t kUnlimited = UINT64_MAX;

// Parameter `name` of a kernel module as a file in modprobe.d sets it.
struct ModuleOption {
  std::string module;
  std::string name;
  std::string value;
  std::string file;
};

struct Account {
  uid_t uid = 0;
  std::vector<gid_t> groups{};  // The primary one included.
};

struct Swap {
  std::string device;
  std::uint64_t size = 0;  // Bytes.
};

struct PowerLevel {
  std::string card;   // "card1"
  std::string level;  // Of power_dpm_force_performance_level: "auto".
};

struct AmdgpuState {
  bool packaged_ttm = false;  // amdttm is loaded: the driver of the package amdgpu-dkms.
  std::optional<std::uint64_t> pages_limit;   // 4 KiB pages.
  std::optional<std::int64_t> gttsize;        // MiB; -1: not set.
  std::optional<std::string> lockup_timeout;  // As it was set; empty: the kernel's default.
  std::optional<std::int64_t> cwsr_enable;
  std::vector<PowerLevel> power_levels;
};

struct SystemState {
  Distribution distribution;
  AmdgpuState amdgpu;
  hardware::InstalledFiles installed;
  std::map<std::string, mode_t> node_modes;  // Of the device nodes that are present.

  std::vector<ModuleOption> module_options;  // Of ttm, amdttm and amdgpu; a later one counts.
  std::vector<std::string> built_in;         // Those of them that are part of the kernel.
  std::string firmware_package;              // That of the GPU's firmware; empty if not found.
  std::string firmware_version;
  bool packaged_firmware = false;  // amdgpu-dkms-firmware is installed.
  std::string nvidia_version;      // Of the kernel module; empty: not loaded.
  CudaLibraries cuda;              // Only read where NVIDIA's driver is.

  Account account;                           // That this process has.
  bool may_lock_any = false;                 // CAP_IPC_LOCK.
  std::vector<std::string> groups;           // All that exist here.
  std::optional<std::uint64_t> memory_lock;  // RLIMIT_MEMLOCK, soft; kUnlimited.
  std::vector<Swap> swaps;
  std::optional<std::uint64_t> swappiness;
  std::string huge_pages;        // "always", "madvise", "never"; empty if unknown.
  std::string frequency_driver;  // "amd-pstate-epp"; empty if unknown.
  std::string energy_preference;

  // Files of Yoke's own that exist: path and content.
  std::map<std::string, std::string> own_files;
};

SystemState read_state(const hardware::HostFiles& files, const hardware::Machine& machine);

// The account with `uid` in /etc/passwd and /etc/group; without an entry it has no groups.
Account read_account(const hardware::HostFiles& files, uid_t uid);

// The last value of `module.name` on the kernel's command line.
std::optional<std::string> kernel_argument(const hardware::Host& host, std::string_view name);

// The option that counts, leaving out the ones in `except`.
const ModuleOption* module_option(const SystemState& state, std::string_view module,
                                  std::string_view name, std::string_view except = {});

}  // namespace yoke::doctor
