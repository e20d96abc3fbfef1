// What kind of chip a gfx version or a compute capability stands for. Pure; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "hardware/machine.h"

namespace yoke::hardware {

// "gfx90a" is 9, 0, 10; "gfx1151" is 11, 5, 1.
struct GfxVersion {
  int major = 0;
  int minor = 0;
  int stepping = 0;
};
// Features behind the version ("gfx90a:sramecc+:xnack-") are passed over.
std::optional<GfxVersion> parse_gfx(std::string_view gfx);

struct ArchitectureInfo {
  Architecture family = Architecture::kUnknown;
  std::string name{};  // "RDNA 3.5"; empty if unknown.
};
ArchitectureInfo architecture_of_gfx(std::string_view gfx);
ArchitectureInfo architecture_of_capability(ComputeCapability capability);

}  // namespace yoke::hardware
