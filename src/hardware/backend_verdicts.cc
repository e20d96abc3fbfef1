#include "hardware/backend_verdicts.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "hardware/architecture.h"

namespace yoke::hardware {
namespace {

// What speaks against a backend, and what else its users should know.
struct Findings {
  std::vector<std::string> against;
  std::vector<std::string> remarks;
};

BackendVerdict verdict(Backend backend, Findings findings) {
  const bool usable = findings.against.empty();
  std::vector<std::string>& reasons = findings.against;
  std::ranges::move(findings.remarks, std::back_inserter(reasons));
  return {backend, usable, fmt::format("{}", fmt::join(reasons, " "))};
}

template <class Range, class Value>
bool contains(const Range& range, const Value& value) {
  return std::find(range.begin(), range.end(), value) != range.end();
}

// The detector's observation, if it was asked.
const Observation* asked(const VerdictContext& context, Source source) {
  const auto found =
      std::find_if(context.observations.begin(), context.observations.end(),
                   [&](const Observation& observation) { return observation.source == source; });
  return found == context.observations.end() ? nullptr : &*found;
}

bool has_driver(const Device& device, VulkanDriver driver) {
  return std::any_of(device.vulkan_drivers.begin(), device.vulkan_drivers.end(),
                     [&](const VulkanFacts& facts) { return facts.driver == driver; });
}

// Manifests by the beginning of their names: "radeon_icd.x86_64.json".
bool has_icd(const InstalledFiles& installed, std::string_view prefix) {
  return std::any_of(installed.vulkan_icds.begin(), installed.vulkan_icds.end(),
                     [&](const std::string& name) { return name.starts_with(prefix); });
}

// The kernel's driver of a vendor's devices, and the manifest of its Vulkan driver.
struct VendorDriver {
  Vendor vendor;
  std::string_view manifest;
  std::string_view name;
  std::string_view package;
};
constexpr std::array kVulkanDrivers{
    VendorDriver{Vendor::kAmd, "radeon_icd", "RADV",
                 "Install Mesa's Vulkan driver (mesa-vulkan-drivers; on Arch vulkan-radeon)."},
    VendorDriver{Vendor::kNvidia, "nvidia_icd", "NVIDIA Vulkan driver",
                 "It comes with NVIDIA's driver."},
    VendorDriver{Vendor::kNvidia, "nouveau_icd", "NVK",
                 "Install Mesa's Vulkan driver (mesa-vulkan-drivers)."},
    VendorDriver{Vendor::kIntel, "intel", "Intel Vulkan driver",
                 "Install Mesa's Vulkan driver (mesa-vulkan-drivers; on Arch vulkan-intel)."}};

const VendorDriver* vulkan_driver_for(const Device& device) {
  const bool nouveau = device.driver && device.driver->value == "nouveau";
  for (const VendorDriver& driver : kVulkanDrivers) {
    if (driver.vendor != device.vendor) continue;
    if (driver.vendor == Vendor::kNvidia && nouveau != (driver.name == "NVK")) continue;
    return &driver;
  }
  return nullptr;
}

constexpr std::string_view kAmdvlkNever =
    "AMDVLK is discontinued, slow and prone to lose the device (GPUOpen-Drivers/AMDVLK #416): "
    "remove it and use RADV.";
constexpr std::string_view kAmdvlkToo =
    "AMDVLK is installed too and may take over: remove it, or set AMD_VULKAN_ICD=RADV.";

void judge_offered_vulkan(const Device& device, Findings& findings) {
  if (device.vendor != Vendor::kAmd) return;
  const bool amdvlk = has_driver(device, VulkanDriver::kAmdvlk);
  if (has_driver(device, VulkanDriver::kRadv)) {
    if (amdvlk) findings.remarks.emplace_back(kAmdvlkToo);
    return;
  }
  findings.against.emplace_back("No RADV.");
  if (amdvlk) {
    findings.against.emplace_back(kAmdvlkNever);
  } else {
    findings.against.push_back(
        fmt::format("Only {} offers this device.", name_of(device.vulkan_drivers.front().driver)));
  }
}

void judge_render_node(const Device& device, const VerdictContext& context, Findings& findings) {
  if (!device.render_minor) return;
  const auto node = context.installed.nodes.render.find(*device.render_minor);
  if (node == context.installed.nodes.render.end()) return;
  std::string text = obstacle(node->second, context.host.container);
  if (!text.empty()) findings.against.push_back(std::move(text));
}

// Why Vulkan does not have the device, or whether it would, by what is installed.
void judge_vulkan_files(const Device& device, const VerdictContext& context, Findings& findings) {
  const InstalledFiles& installed = context.installed;
  const VendorDriver* const driver = vulkan_driver_for(device);
  if (driver == nullptr) {
    findings.against.emplace_back("No Vulkan driver offers this device.");
    return;
  }
  if (!has_icd(installed, driver->manifest)) {
    findings.against.push_back(fmt::format("No {}. {}", driver->name, driver->package));
  }
  if (device.vendor == Vendor::kAmd && has_icd(installed, "amd_icd")) {
    const bool only = !has_icd(installed, "radeon_icd");
    (only ? findings.against : findings.remarks).emplace_back(only ? kAmdvlkNever : kAmdvlkToo);
  }
  judge_render_node(device, context, findings);
}

Findings judge_software(const VerdictContext& context) {
  if (context.offer_software) return {{}, {"Computed by the processor: for tests only."}};
  return {{"Computed by the processor: not offered unless asked for with --software."}, {}};
}

Findings judge_vulkan(const Device& device, const VerdictContext& context) {
  if (device.software) return judge_software(context);
  Findings findings;
  const Observation* const vulkan = asked(context, Source::kVulkan);
  if (!device.vulkan_drivers.empty()) {
    judge_offered_vulkan(device, findings);
    return findings;
  }
  // A copy of another machine's files need not hold its libraries.
  const bool no_loader = vulkan != nullptr && vulkan->outcome == Outcome::kAbsent;
  if (no_loader) findings.against.emplace_back("No Vulkan loader (libvulkan.so.1).");
  judge_vulkan_files(device, context, findings);
  if (vulkan == nullptr) {
    findings.remarks.emplace_back("By its files; no driver was asked.");
  } else if (findings.against.empty()) {
    findings.against.push_back(vulkan->outcome == Outcome::kFailed
                                   ? vulkan->detail
                                   : "Its Vulkan driver is installed but does not offer it.");
  }
  return findings;
}

// A copy of another machine's files may have ROCm's version without its libraries.
bool has_hip(const VerdictContext& context) {
  const Observation* const hip = asked(context, Source::kHip);
  return hip != nullptr ? hip->outcome != Outcome::kAbsent
                        : context.installed.hip_runtime || !context.installed.rocm_version.empty();
}

void judge_hip(const Device& device, const VerdictContext& context, Findings& findings) {
  const Observation* const hip = asked(context, Source::kHip);
  if (!has_hip(context)) {
    findings.against.emplace_back("No HIP runtime (libamdhip64.so): install ROCm.");
  } else if (hip == nullptr) {
    findings.remarks.emplace_back("By its files; the HIP runtime was not asked.");
  } else if (!contains(device.seen_by, Source::kHip) && findings.against.empty()) {
    findings.against.push_back(hip->outcome == Outcome::kFailed
                                   ? hip->detail
                                   : "The HIP runtime does not offer this device.");
  }
}

void judge_rocblas(const std::string& gfx, const VerdictContext& context, Findings& findings) {
  const InstalledFiles& installed = context.installed;
  const bool only_version = asked(context, Source::kHip) == nullptr && !installed.hip_runtime;
  if (!has_hip(context) || only_version || contains(installed.rocblas_gfx, gfx)) return;
  findings.against.push_back(installed.rocblas ? fmt::format("rocBLAS has no kernels for {}.", gfx)
                                               : std::string("rocBLAS is not installed."));
}

// ROCm #5616: with the wrong size of the save area for waves the GPU faults under load.
void judge_cwsr(const Device& device, const VerdictContext& context, Findings& findings) {
  constexpr KernelVersion kFixed{6, 18, 4};
  const auto version = parse_gfx(device.gfx->value);
  const bool concerned = version && version->major == 11 && version->minor == 5;
  const std::optional<KernelVersion>& kernel = context.host.kernel;
  if (!concerned || !kernel || *kernel >= kFixed) return;
  const bool disabled = context.installed.cwsr_disabled ||
                        contains(context.host.kernel_arguments, "amdgpu.cwsr_enable=0");
  if (disabled || context.installed.kfd_knows_cwsr_size) return;
  findings.against.push_back(
      fmt::format("Kernel {}.{}.{} is too old for {}: 6.18.4 ends its memory access faults, and so "
                  "does amdgpu.cwsr_enable=0 (ROCm #5616).",
                  kernel->major, kernel->minor, kernel->patch, device.gfx->value));
}

// The kernel's mistake reaches HIP, so programs would be built for the wrong chip.
void judge_misread_gfx(const Device& device, Findings& findings) {
  const auto version = parse_gfx(device.gfx->value);
  const bool misread = std::any_of(
      device.gfx->disagreeing.begin(), device.gfx->disagreeing.end(),
      [](const auto& other) { return other.value == "gfx1100" && other.source == Source::kHip; });
  if (!misread || !version) return;
  findings.remarks.push_back(fmt::format(
      "HIP takes it for gfx1100, a mistake of Linux 6.19: set HSA_OVERRIDE_GFX_VERSION={}.{}.{}.",
      version->major, version->minor, version->stepping));
}

Findings judge_rocm(const Device& device, const VerdictContext& context) {
  Findings findings;
  std::string kfd = obstacle(context.installed.nodes.kfd, context.host.container);
  // HIP goes through it.
  const bool works = contains(device.seen_by, Source::kHip);
  if (!kfd.empty() && !works) findings.against.push_back(std::move(kfd));
  judge_hip(device, context, findings);
  if (!device.gfx) {
    findings.against.emplace_back("Its gfx version is unknown.");
    return findings;
  }
  judge_rocblas(device.gfx->value, context, findings);
  judge_cwsr(device, context, findings);
  judge_misread_gfx(device, findings);
  return findings;
}

void judge_cuda_driver(const Device& device, const VerdictContext& context, Findings& findings) {
  const bool nvidia_driver = device.driver && device.driver->value == "nvidia";
  if (device.driver && !nvidia_driver) {
    findings.against.push_back(
        fmt::format("The {} driver has it: CUDA needs NVIDIA's.", device.driver->value));
    return;
  }
  const Observation* const cuda = asked(context, Source::kCuda);
  if (cuda == nullptr) {
    if (!nvidia_driver) findings.against.emplace_back("NVIDIA's driver is not loaded.");
    findings.remarks.emplace_back("By its files; the driver was not asked.");
  } else if (cuda->outcome == Outcome::kAbsent) {
    findings.against.emplace_back("No libcuda.so.1: install NVIDIA's driver with CUDA.");
  } else if (!contains(device.seen_by, Source::kCuda)) {
    findings.against.push_back(cuda->outcome == Outcome::kFailed
                                   ? cuda->detail
                                   : "The CUDA driver does not offer this device.");
  }
}

Findings judge_cuda(const Device& device, const VerdictContext& context) {
  Findings findings;
  if (device.driver && device.driver->value == "nvidia") {
    std::string node = obstacle(context.installed.nodes.nvidia, context.host.container);
    const bool works = contains(device.seen_by, Source::kCuda);
    if (!node.empty() && !works) findings.against.push_back(std::move(node));
  }
  judge_cuda_driver(device, context, findings);
  if (!device.compute_capability) return findings;
  const ComputeCapability& capability = device.compute_capability->value;
  if (capability.major < 5) {
    findings.against.push_back(fmt::format("Compute capability {}.{}: CUDA engines need 5.0.",
                                           capability.major, capability.minor));
  }
  return findings;
}

// "7.0.2" before "7.10": by numbers.
bool is_older(std::string_view version, const KernelVersion& than) {
  const auto parsed = parse_kernel_version(version);
  return parsed && *parsed < than;
}

// What vLLM's installation page lists for ROCm, with the ROCm that each needs:
// https://docs.vllm.ai/en/latest/getting_started/installation/gpu/
struct VllmGfx {
  std::string_view gfx;
  KernelVersion rocm;
};
constexpr std::array kVllmGfx{
    VllmGfx{"gfx90a", {6, 3, 0}},  VllmGfx{"gfx942", {6, 3, 0}},  VllmGfx{"gfx950", {7, 0, 0}},
    VllmGfx{"gfx1100", {6, 3, 0}}, VllmGfx{"gfx1101", {6, 3, 0}}, VllmGfx{"gfx1200", {6, 3, 0}},
    VllmGfx{"gfx1201", {6, 3, 0}}, VllmGfx{"gfx1150", {7, 0, 2}}, VllmGfx{"gfx1151", {7, 0, 2}}};

VllmVerdict vllm_on_amd(const Device& device, std::string_view rocm_version) {
  if (!device.gfx) return {false, "It depends on the gfx version, which is unknown."};
  const std::string& gfx = device.gfx->value;
  const auto* const listed =
      std::find_if(kVllmGfx.begin(), kVllmGfx.end(),
                   [&](const VllmGfx& candidate) { return candidate.gfx == gfx; });
  if (listed == kVllmGfx.end()) {
    return {false, fmt::format("{} is not in vLLM's list of supported GPUs.", gfx)};
  }
  const KernelVersion& rocm = listed->rocm;
  const std::string needs = rocm.patch > 0
                                ? fmt::format("ROCm {}.{}.{}", rocm.major, rocm.minor, rocm.patch)
                                : fmt::format("ROCm {}.{}", rocm.major, rocm.minor);
  if (is_older(rocm_version, rocm)) {
    return {false, fmt::format("It needs {}; {} is installed.", needs, rocm_version)};
  }
  return {true, fmt::format("It needs {} or newer.", needs)};
}

// vLLM 0.14 was content with 7.0; its present releases list 7.5 (same page).
VllmVerdict vllm_on_nvidia(const Device& device) {
  if (!device.compute_capability)
    return {false, "It depends on the compute capability, which is unknown."};
  const ComputeCapability& found = device.compute_capability->value;
  const auto at_least = [&](int major, int minor) {
    return std::pair(found.major, found.minor) >= std::pair(major, minor);
  };
  if (at_least(7, 5)) return {true, ""};
  if (at_least(7, 0)) return {true, "Up to vLLM 0.14; newer releases need compute capability 7.5."};
  return {false, fmt::format("Compute capability {}.{}: vLLM needs 7.0, newer releases 7.5.",
                             found.major, found.minor)};
}

}  // namespace

std::vector<BackendVerdict> backend_verdicts(const Device& device, const VerdictContext& context) {
  std::vector<BackendVerdict> verdicts{verdict(Backend::kVulkan, judge_vulkan(device, context))};
  if (device.software) return verdicts;
  if (device.vendor == Vendor::kAmd) {
    verdicts.push_back(verdict(Backend::kRocm, judge_rocm(device, context)));
  }
  if (device.vendor == Vendor::kNvidia) {
    verdicts.push_back(verdict(Backend::kCuda, judge_cuda(device, context)));
  }
  return verdicts;
}

VllmVerdict vllm_verdict(const Device& device, std::string_view rocm_version) {
  if (device.software) return {false, "It is computed by the processor."};
  switch (device.vendor) {
    case Vendor::kAmd:
      return vllm_on_amd(device, rocm_version);
    case Vendor::kNvidia:
      return vllm_on_nvidia(device);
    case Vendor::kIntel:
      return {false, "Yoke does not run vLLM on Intel GPUs."};
    case Vendor::kOther:
      break;
  }
  return {false, "It is no GPU that vLLM knows."};
}

}  // namespace yoke::hardware
