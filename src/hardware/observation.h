// What one detector saw of the machine's devices, before it is compared with the others'.
// Plain values; any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace yoke::hardware {

// The detectors in the order in which they are believed where nothing else is known.
enum class Source { kAmdSmi, kNvml, kHip, kCuda, kVulkan, kKfd, kDrm };

// "amd-smi", "nvml", "hip", "cuda", "vulkan", "kfd", "drm".
std::string_view name_of(Source source);
std::optional<Source> source_of(std::string_view name);

enum class Vendor { kAmd, kNvidia, kIntel, kOther };
std::string_view name_of(Vendor vendor);           // "AMD", "NVIDIA", "Intel", "other"
Vendor vendor_of_pci_id(std::uint32_t vendor_id);  // 0x1002, 0x10de, 0x8086.

struct ComputeCapability {
  int major = 0;
  int minor = 0;
  friend bool operator==(const ComputeCapability&, const ComputeCapability&) = default;
};

// Which Vulkan driver offers a device (VkDriverId).
enum class VulkanDriver { kRadv, kAmdvlk, kAmdPro, kNvidia, kNvk, kAnv, kLavapipe, kOther };
std::string_view name_of(VulkanDriver driver);  // "RADV", "AMDVLK", "AMD proprietary", ...

struct VulkanFacts {
  VulkanDriver driver = VulkanDriver::kOther;
  std::string driver_name;  // As the driver calls itself.
  std::string driver_info;  // "Mesa 25.2.1"
  std::string api_version;  // "1.3.255"
  bool software = false;    // VK_PHYSICAL_DEVICE_TYPE_CPU: computed by the processor.
};

// One device as one detector sees it. What the detector does not know is absent; sizes in bytes.
struct ObservedDevice {
  std::optional<std::string> pci_address;  // "0000:c5:00.0", lower case
  std::optional<Vendor> vendor;
  std::optional<std::uint32_t> pci_device_id;
  std::optional<std::string> name;
  std::optional<std::string> gfx;  // AMD: "gfx1151"
  std::optional<ComputeCapability> compute_capability;
  std::optional<bool> integrated;
  std::optional<std::string> driver;          // The kernel's: "amdgpu", "nvidia", "i915".
  std::optional<std::string> driver_version;  // Of the driver or of the runtime that was asked.
  // AMD's parts as the kernel counts them: the carve-out (VRAM) and GTT.
  std::optional<std::uint64_t> vram_total;
  std::optional<std::uint64_t> vram_used;
  std::optional<std::uint64_t> gtt_total;
  std::optional<std::uint64_t> gtt_used;
  // What this runtime says a program can have, whatever it counts into it.
  std::optional<std::uint64_t> memory_total;
  std::optional<std::uint64_t> memory_free;
  std::optional<int> render_minor;    // N of /dev/dri/renderDN
  std::optional<bool> persistence;    // NVIDIA's persistence mode.
  std::optional<VulkanFacts> vulkan;  // Of the Vulkan detector only.
};

enum class Outcome {
  kFound,      // At least one device.
  kNoDevices,  // It works, and there is none.
  kAbsent,     // Not installed here.
  kFailed,     // It should have worked: error code, crash, time over, unknown ABI.
};
std::string_view name_of(Outcome outcome);  // "found", "no devices", "not installed", "failed"

struct Observation {
  Source source = Source::kDrm;
  Outcome outcome = Outcome::kAbsent;
  std::string detail;   // Why it failed or what is missing, one sentence; else empty.
  std::string version;  // Of the library, where it tells.
  std::vector<ObservedDevice> devices;
  std::vector<std::string> notes;  // What was skipped, and why.
  std::chrono::milliseconds took{0};
};

}  // namespace yoke::hardware
