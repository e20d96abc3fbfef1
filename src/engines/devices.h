// The devices that a llama-server can compute on, from what its --list-devices prints. Pure; any
// thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace yoke::engines {

struct EngineDevice {
  std::string id;    // As --device takes it: "Vulkan0".
  std::string name;  // "llvmpipe (LLVM 15.0.6, 256 bits)".
  std::uint64_t total_bytes = 0;
  std::uint64_t free_bytes = 0;  // When it was asked.

  friend bool operator==(const EngineDevice&, const EngineDevice&) = default;
};

// In the engine's order; none if it knows only the CPU. Lines of another form are passed over.
// kEngineUnusable (capabilities.h) if `output` holds no list.
Result<std::vector<EngineDevice>> parse_devices(std::string_view output);

// What a llama-server that lists these computes on: "vulkan", "rocm", "cuda", or "cpu" if it lists
// none; "" for devices of another kind.
std::string_view backend_of(const std::vector<EngineDevice>& devices);

}  // namespace yoke::engines
