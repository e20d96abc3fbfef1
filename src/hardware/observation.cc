#include "hardware/observation.h"

#include <algorithm>
#include <array>

namespace yoke::hardware {
namespace {

constexpr std::array kSources{Source::kAmdSmi, Source::kNvml, Source::kHip, Source::kCuda,
                              Source::kVulkan, Source::kKfd,  Source::kDrm};

}  // namespace

std::string_view name_of(Source source) {
  switch (source) {
    case Source::kAmdSmi:
      return "amd-smi";
    case Source::kNvml:
      return "nvml";
    case Source::kHip:
      return "hip";
    case Source::kCuda:
      return "cuda";
    case Source::kVulkan:
      return "vulkan";
    case Source::kKfd:
      return "kfd";
    case Source::kDrm:
      return "drm";
  }
  return "";
}

std::optional<Source> source_of(std::string_view name) {
  const auto* const found =
      std::ranges::find_if(kSources, [name](Source source) { return name_of(source) == name; });
  if (found == kSources.end()) return std::nullopt;
  return *found;
}

std::string_view name_of(Vendor vendor) {
  switch (vendor) {
    case Vendor::kAmd:
      return "AMD";
    case Vendor::kNvidia:
      return "NVIDIA";
    case Vendor::kIntel:
      return "Intel";
    case Vendor::kOther:
      return "other";
  }
  return "";
}

Vendor vendor_of_pci_id(std::uint32_t vendor_id) {
  switch (vendor_id) {
    case 0x1002:
      return Vendor::kAmd;
    case 0x10de:
      return Vendor::kNvidia;
    case 0x8086:
      return Vendor::kIntel;
    default:
      return Vendor::kOther;
  }
}

std::string_view name_of(VulkanDriver driver) {
  switch (driver) {
    case VulkanDriver::kRadv:
      return "RADV";
    case VulkanDriver::kAmdvlk:
      return "AMDVLK";
    case VulkanDriver::kAmdPro:
      return "AMD proprietary";
    case VulkanDriver::kNvidia:
      return "NVIDIA";
    case VulkanDriver::kNvk:
      return "NVK";
    case VulkanDriver::kAnv:
      return "ANV";
    case VulkanDriver::kLavapipe:
      return "lavapipe";
    case VulkanDriver::kOther:
      return "other";
  }
  return "";
}

std::string_view name_of(Outcome outcome) {
  switch (outcome) {
    case Outcome::kFound:
      return "found";
    case Outcome::kNoDevices:
      return "no devices";
    case Outcome::kAbsent:
      return "not installed";
    case Outcome::kFailed:
      return "failed";
  }
  return "";
}

}  // namespace yoke::hardware
