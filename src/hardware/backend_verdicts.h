// Which backends can use a device, which can't and why, and whether vLLM officially supports it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hardware/device_nodes.h"
#include "hardware/host.h"
#include "hardware/machine.h"

namespace yoke::hardware {

// What is installed, as far as it decides about a backend. A plain value.
struct InstalledFiles {
  std::vector<std::string> vulkan_icds;    // File names: "radeon_icd.x86_64.json".
  bool hip_runtime = false;                // libamdhip64.so
  bool rocblas = false;                    // Its library of kernels, whatever is in it.
  std::vector<std::string> rocblas_gfx{};  // Those of the devices' versions that it has.
  std::string rocm_version;                // "7.0.2"; empty if unknown.
  bool kfd_knows_cwsr_size = false;        // The fix of ROCm #5616, also where it was backported.
  bool cwsr_disabled = false;              // amdgpu.cwsr_enable=0
  DeviceNodes nodes;
};
// Blocking reads; any thread.
InstalledFiles read_installed_files(const HostFiles& files, const std::vector<Device>& devices);

// All that a verdict is made of. Refers to what it was made from.
struct VerdictContext {
  const Host& host;
  const InstalledFiles& installed;
  // Of all detectors; one that was not asked is not in it, and files decide in its place.
  const std::vector<Observation>& observations;
  bool offer_software = false;
};

// Pure; any thread.
std::vector<BackendVerdict> backend_verdicts(const Device& device, const VerdictContext& context);

struct VllmVerdict {
  bool supported = false;
  std::string reason;
};
VllmVerdict vllm_verdict(const Device& device, std::string_view rocm_version);

}  // namespace yoke::hardware
