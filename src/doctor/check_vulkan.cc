// Vulkan: the loader and the driver files (ICDs) that it reads.
#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "doctor/check_subjects.h"

namespace yoke::doctor {
namespace {

using hardware::Backend;
using hardware::Device;
using hardware::Vendor;

constexpr PackageNames kLoader{
    .debian = "libvulkan1", .fedora = "vulkan-loader", .arch = "vulkan-icd-loader"};
constexpr std::string_view kIcdSource = "(Khronos Vulkan loader documentation, driver discovery)";

// Nothing where the Vulkan detector was not asked: for a copy of another machine's files.
std::optional<bool> has_loader(const hardware::Machine& machine) {
  for (const hardware::Observation& observation : machine.observations) {
    if (observation.source == hardware::Source::kVulkan) {
      return observation.outcome != hardware::Outcome::kAbsent;
    }
  }
  return std::nullopt;
}

bool has_icd(const SystemState& state, std::string_view start) {
  const auto& icds = state.installed.vulkan_icds;
  return std::any_of(icds.begin(), icds.end(),
                     [&](const std::string& name) { return name.starts_with(start); });
}

struct Driver {
  std::string_view name;
  std::string_view icd;  // What its file's name begins with.
  PackageNames packages;
};

Driver driver_for(Vendor vendor) {
  switch (vendor) {
    case Vendor::kAmd:
      return {"RADV",
              "radeon_icd",
              {.debian = "mesa-vulkan-drivers",
               .fedora = "mesa-vulkan-drivers",
               .arch = "vulkan-radeon"}};
    case Vendor::kIntel:
      return {"ANV",
              "intel_",
              {.debian = "mesa-vulkan-drivers",
               .fedora = "mesa-vulkan-drivers",
               .arch = "vulkan-intel"}};
    case Vendor::kNvidia:
      return {
          "NVIDIA's",
          "nvidia_icd",
          {.debian = "nvidia-driver-libs", .fedora = "nvidia-driver-libs", .arch = "nvidia-utils"}};
    case Vendor::kOther:
      break;
  }
  return {};
}

// With another way to use the device a missing Vulkan is a loss, without one it is the end.
Severity severity_of_loss(const Device& device) {
  if (!has_other_backend(device, Backend::kVulkan)) return Severity::kBlocking;
  return device.vendor == Vendor::kNvidia ? Severity::kInfo : Severity::kWarning;
}

Finding loader(const CheckInput& input, const std::vector<const Device*>& devices, bool installed) {
  Finding finding{
      .id = "vulkan-loader", .title = "Vulkan loader (libvulkan.so.1)", .found = "installed"};
  if (installed) return finding;
  finding.severity = Severity::kInfo;
  for (const Device* device : devices) {
    finding.severity = std::max(finding.severity, severity_of_loss(*device));
  }
  finding.found = "not installed";
  finding.wanted = "installed";
  finding.why =
      "Engines reach the GPU's Vulkan driver through it, and Vulkan is what most models run best "
      "on with AMD";
  finding.fix = how_to_install(input.state.distribution, kLoader);
  return finding;
}

Finding icd(const CheckInput& input, const Device& device) {
  const Driver driver = driver_for(device.vendor);
  Finding finding{.id = fmt::format("vulkan-driver-{}", device.id),
                  .title = fmt::format("Vulkan driver of {}", device.name.value),
                  .found = fmt::format("{} ({}*.json)", driver.name, driver.icd)};
  const bool mesa_for_nvidia = device.vendor == Vendor::kNvidia && has_icd(input.state, "nouveau");
  if (has_icd(input.state, driver.icd) || mesa_for_nvidia) return finding;
  finding.severity = severity_of_loss(device);
  finding.found = fmt::format("no {}*.json in any icd.d", driver.icd);
  finding.wanted = fmt::format("{} driver", driver.name);
  finding.why = fmt::format("Without this file the loader does not know the driver {}", kIcdSource);
  finding.fix = how_to_install(input.state.distribution, driver.packages);
  return finding;
}

bool uses_amdvlk(const hardware::Machine& machine) {
  return std::any_of(machine.devices.begin(), machine.devices.end(), [](const Device& device) {
    return std::any_of(device.vulkan_drivers.begin(), device.vulkan_drivers.end(),
                       [](const hardware::VulkanFacts& facts) {
                         return facts.driver == hardware::VulkanDriver::kAmdvlk;
                       });
  });
}

Finding amdvlk(const CheckInput& input) {
  const bool radv = has_icd(input.state, "radeon_icd");
  Finding finding{
      .id = "amdvlk", .title = "AMDVLK beside RADV", .found = "AMDVLK is not installed"};
  if (!has_icd(input.state, "amd_icd") && !uses_amdvlk(input.machine)) return finding;
  finding.severity = Severity::kWarning;
  finding.found = radv ? "amd_icd64.json beside radeon_icd*.json" : "AMDVLK, and no RADV";
  finding.wanted = "RADV alone";
  finding.why =
      "AMDVLK is discontinued (GPUOpen-Drivers/AMDVLK #405, #416), loses the device where RADV "
      "does not and reads prompts slower (kyuz0/amd-strix-halo-toolboxes, 2026); installed, it "
      "takes "
      "RADV's place without a word";
  finding.fix = how_to_uninstall(input.state.distribution,
                                 {.debian = "amdvlk", .fedora = "amdvlk", .arch = "amdvlk"}) +
                "; or set AMD_VULKAN_ICD=RADV for every engine";
  return finding;
}

}  // namespace

void check_vulkan(const CheckInput& input, std::vector<Finding>& findings) {
  std::vector<const Device*> devices;
  for (const Device& device : input.machine.devices) {
    const bool known = device.vendor != Vendor::kOther && !device.software;
    const bool compute_only = device.vendor == Vendor::kAmd && !is_amd_graphics(device);
    if (known && !compute_only) devices.push_back(&device);
  }
  if (devices.empty()) return;
  if (const auto installed = has_loader(input.machine)) {
    findings.push_back(loader(input, devices, *installed));
  }
  for (const Device* device : devices) findings.push_back(icd(input, *device));
  if (has_amd_graphics(input.machine)) findings.push_back(amdvlk(input));
}

}  // namespace yoke::doctor
