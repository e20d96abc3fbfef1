// The amdgpu driver: its watchdog, known bugs of kernel and firmware, power.
#include <algorithm>

#include <fmt/format.h>

#include "doctor/check_subjects.h"
#include "doctor/text.h"
#include "hardware/text_fields.h"

namespace yoke::doctor {
namespace {

using hardware::KernelVersion;

constexpr std::string_view kLockupTimeout = "10000,60000,10000,10000";
constexpr KernelVersion kShortTimeout{6, 19, 0};
constexpr KernelVersion kCwsrFixed{6, 18, 4};
constexpr std::string_view kBadFirmware = "20251125";

std::string kernel_name(const CheckInput& input) {
  const std::string& text = input.host().kernel_text;
  return text.empty() ? "unknown kernel" : "kernel " + hardware::printable(text);
}

// Milliseconds for compute jobs; nothing if the parameter leaves the kernel's default, or is no
// list of numbers. A negative value means no limit.
std::optional<std::int64_t> compute_timeout(std::string_view text) {
  const auto values = split(text, ',');
  const auto value = number_of<std::int64_t>(hardware::trim(values[values.size() > 1 ? 1 : 0]));
  return value == 0 ? std::nullopt : value;
}

Finding lockup_timeout(const CheckInput& input, const std::string& text) {
  const auto timeout = compute_timeout(text);
  const bool short_default = !input.host().kernel || *input.host().kernel >= kShortTimeout;
  Finding finding{.id = "amdgpu-lockup-timeout",
                  .title = "Watchdog of the GPU (amdgpu.lockup_timeout)",
                  .found = text.empty() ? "not set" : text,
                  .reboot = true};
  if (!timeout) {
    finding.found += short_default ? ": 2000 ms, the default since Linux 6.19"
                                   : ": the kernel's default, 10 s or more";
  }
  constexpr std::int64_t kEnough = 10'000;
  if (timeout ? *timeout < 0 || *timeout >= kEnough : !short_default) return finding;
  finding.severity = Severity::kWarning;
  finding.wanted = fmt::format("amdgpu.lockup_timeout={}", kLockupTimeout);
  finding.why =
      "A long prompt keeps the GPU busy for longer than that; the driver takes it for a hang, and "
      "Vulkan loses the device (llama.cpp #25664, #27076, #21724, #27306; ollama #17870)";
  finding.fix = how_to_add(input.state.distribution, finding.wanted);
  finding.settings = {
      {Setting::Kind::kModuleParameter, "amdgpu.lockup_timeout", std::string(kLockupTimeout)}};
  return finding;
}

Finding cwsr(const CheckInput& input) {
  Finding finding{.id = "kernel-cwsr",
                  .title = "Kernel fit for ROCm on gfx115x (CWSR)",
                  .found = kernel_name(input),
                  .reboot = true};
  const auto& kernel = input.host().kernel;
  if (input.state.amdgpu.cwsr_enable == 0) {
    finding.found += ", amdgpu.cwsr_enable=0";
    return finding;
  }
  if (input.state.installed.kfd_knows_cwsr_size) {
    finding.found += ", which has the fix";
    return finding;
  }
  if (kernel && *kernel >= kCwsrFixed) return finding;
  finding.severity = Severity::kWarning;
  finding.wanted = "6.18.4 or newer; until then amdgpu.cwsr_enable=0";
  finding.why =
      "Older kernels reserve too little memory for saving compute waves: ROCm programs die with "
      "\"Memory access fault by GPU node-1\" or hang (ROCm #5616, #5590). Vulkan is not concerned";
  finding.fix =
      "Update the kernel, or: " + how_to_add(input.state.distribution, "amdgpu.cwsr_enable=0");
  finding.settings = {{Setting::Kind::kModuleParameter, "amdgpu.cwsr_enable", "0"}};
  return finding;
}

Finding firmware(const CheckInput& input) {
  const SystemState& state = input.state;
  Finding finding{.id = "linux-firmware", .title = "GPU firmware (linux-firmware)", .reboot = true};
  if (state.firmware_version.empty()) {
    finding.severity = Severity::kInfo;
    finding.found = "its version was not found";
    finding.wanted = "any but 20251125";
    finding.why = "linux-firmware 20251125 hangs gfx1151 under ROCm (ROCm #5616, #5724: MES 0x83)";
    finding.fix = state.distribution.family == Distribution::Family::kFedora
                      ? "Look yourself: rpm -q amd-gpu-firmware"
                      : "Look yourself with your package manager";
    finding.reboot = false;
    return finding;
  }
  finding.found = fmt::format("{} {}", state.firmware_package, state.firmware_version);
  if (!state.firmware_version.starts_with(kBadFirmware)) return finding;
  finding.severity = Severity::kWarning;
  finding.wanted = "20260110 or newer, or 20251111";
  finding.why =
      "This release brought MES firmware 0x83, with which ROCm hangs or faults on gfx1151; it was "
      "taken back in December 2025 (ROCm #5616, #5724)";
  const std::string_view package = state.firmware_package;
  finding.fix = how_to_update(state.distribution, {package, package, package});
  return finding;
}

Finding packaged_driver(const CheckInput& input) {
  const SystemState& state = input.state;
  Finding finding{.id = "amdgpu-dkms",
                  .title = "Driver of the package amdgpu-dkms",
                  .found = "not installed: the kernel's own driver is used",
                  .reboot = true};
  if (!state.amdgpu.packaged_ttm && !state.packaged_firmware) return finding;
  finding.found = state.amdgpu.packaged_ttm ? "loaded (/sys/module/amdttm)"
                                            : "amdgpu-dkms-firmware is still installed";
  if (!has_gfx115x(input.machine)) return finding;
  finding.severity = Severity::kWarning;
  finding.wanted = "the kernel's own driver and firmware";
  finding.why =
      "On gfx115x the packaged driver and its firmware lack fixes that newer kernels have (ROCm "
      "#5616, #5991); its parameters are amdttm.*, and ttm.* does nothing";
  finding.fix = how_to_uninstall(state.distribution,
                                 {.debian = "--autoremove amdgpu-dkms amdgpu-dkms-firmware",
                                  .fedora = "amdgpu-dkms amdgpu-dkms-firmware",
                                  .arch = "amdgpu-dkms"});
  return finding;
}

Finding power_level(const CheckInput& input) {
  const std::vector<PowerLevel>& levels = input.state.amdgpu.power_levels;
  Finding finding{.id = "amdgpu-power-level",
                  .title = "Clocks of the GPU (power_dpm_force_performance_level)"};
  std::vector<std::string> texts;
  bool low = false;
  bool fixed = false;
  for (const PowerLevel& entry : levels) {
    texts.push_back(fmt::format("{} {}", entry.card, entry.level));
    low = low || entry.level == "low";
    fixed = fixed || (entry.level != "auto" && entry.level != "high");
  }
  finding.found = fmt::format("{}", fmt::join(texts, ", "));
  if (!fixed) return finding;
  finding.severity = low ? Severity::kWarning : Severity::kInfo;
  finding.wanted = "auto (or high)";
  finding.why =
      "The GPU stays at the clocks that this level fixes, whatever it has to do "
      "(docs.kernel.org, amdgpu: GPU power controls)";
  finding.fix =
      "echo auto | sudo tee /sys/class/drm/card*/device/power_dpm_force_performance_level";
  if (low) {
    finding.settings = {
        {Setting::Kind::kUdevRule,
         R"(ACTION=="add|change", SUBSYSTEM=="drm", KERNEL=="card[0-9]*", DRIVERS=="amdgpu", )"
         R"(ATTR{device/power_dpm_force_performance_level}="auto")"}};
  }
  return finding;
}

}  // namespace

void check_amdgpu(const CheckInput& input, std::vector<Finding>& findings) {
  const bool amd = std::any_of(input.machine.devices.begin(), input.machine.devices.end(),
                               [](const auto& device) {
                                 return device.vendor == hardware::Vendor::kAmd && !device.software;
                               });
  if (!amd) return;
  const AmdgpuState& state = input.state.amdgpu;
  if (state.lockup_timeout && has_amd_graphics(input.machine)) {
    findings.push_back(lockup_timeout(input, *state.lockup_timeout));
  }
  if (has_gfx115x(input.machine)) {
    findings.push_back(cwsr(input));
    // A container's packages are not those of the system that loaded the firmware.
    if (input.host().container.kind.empty()) findings.push_back(firmware(input));
  }
  findings.push_back(packaged_driver(input));
  if (!state.power_levels.empty()) findings.push_back(power_level(input));
}

}  // namespace yoke::doctor
