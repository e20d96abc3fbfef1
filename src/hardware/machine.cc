#include "hardware/machine.h"

namespace yoke::hardware {

std::string_view name_of(Architecture architecture) {
  switch (architecture) {
    case Architecture::kRdna:
      return "RDNA";
    case Architecture::kCdna:
      return "CDNA";
    case Architecture::kGcn:
      return "GCN";
    case Architecture::kNvidia:
      return "NVIDIA";
    case Architecture::kIntel:
      return "Intel";
    case Architecture::kUnknown:
      break;
  }
  return "unknown";
}

std::string_view name_of(Backend backend) {
  switch (backend) {
    case Backend::kVulkan:
      return "vulkan";
    case Backend::kRocm:
      return "rocm";
    case Backend::kCuda:
      return "cuda";
    case Backend::kCpu:
      break;
  }
  return "cpu";
}

}  // namespace yoke::hardware
