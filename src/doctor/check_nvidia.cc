// NVIDIA: is the kernel driver there, is it new enough, does it stay loaded? Are CUDA's libraries
// there?
#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "doctor/check_subjects.h"
#include "doctor/text.h"

namespace yoke::doctor {
namespace {

using hardware::Backend;
using hardware::Device;

constexpr int kForCuda12 = 525;
constexpr int kForCuda13 = 580;
constexpr PackageNames kDriver{
    .debian = "nvidia-driver", .fedora = "akmod-nvidia", .arch = "nvidia-open"};

std::string driver_version(const CheckInput& input, const Device& device) {
  if (!input.state.nvidia_version.empty()) return input.state.nvidia_version;
  const bool own = device.driver && device.driver->value == "nvidia";
  return own && device.driver_version ? device.driver_version->value : "";
}

Finding driver(const CheckInput& input, const Device& device) {
  Finding finding{.id = "nvidia-driver", .title = "NVIDIA driver", .reboot = true};
  const std::string version = driver_version(input, device);
  if (version.empty()) {
    const bool other = has_other_backend(device, Backend::kCuda);
    finding.severity = other ? Severity::kWarning : Severity::kBlocking;
    finding.found = device.driver && !device.driver->value.empty()
                        ? fmt::format("{} in its place", device.driver->value)
                        : "no driver is loaded";
    finding.wanted = fmt::format("NVIDIA's driver, {} or newer", kForCuda13);
    finding.why = "CUDA works with NVIDIA's own driver only (CUDA Toolkit release notes)";
    finding.fix = how_to_install(input.state.distribution, kDriver);
    return finding;
  }
  finding.found = version;
  const auto major = number_of<int>(split(version, '.').front());
  if (!major || *major >= kForCuda13) return finding;
  finding.severity = *major < kForCuda12 ? Severity::kWarning : Severity::kInfo;
  finding.wanted = fmt::format("{} or newer", kForCuda13);
  finding.why =
      *major < kForCuda12
          ? "CUDA 12 needs 525.60.13 at least, and CUDA 13 needs 580.65.06 (CUDA Toolkit "
            "release notes, minimum required driver versions)"
          : "It runs CUDA 12; CUDA 13 needs 580.65.06 (CUDA Toolkit release notes, minimum "
            "required driver versions)";
  finding.fix = how_to_update(input.state.distribution, kDriver);
  return finding;
}

// Without them llama.cpp's module for CUDA is not loaded, and the engine computes on the CPU.
Finding libraries(const CheckInput& input, const Device& device) {
  Finding finding{.id = "cuda-libraries", .title = "CUDA's libcudart and libcublas"};
  const CudaLibraries& cuda = input.state.cuda;
  if (!cuda.versions.empty()) {
    finding.found = fmt::format("of CUDA {}", fmt::join(cuda.versions, " and "));
    return finding;
  }
  const bool other = has_other_backend(device, Backend::kCuda);
  finding.severity = other ? Severity::kInfo : Severity::kWarning;
  finding.wanted = "of CUDA 12 or 13, where the dynamic linker finds them";
  finding.why =
      "Engines for CUDA are linked to them and compute on the CPU without (CUDA Installation Guide "
      "for Linux, runtime libraries)";
  if (cuda.unlinked_dir.empty()) {
    finding.found = "not found";
    finding.fix =
        "Install cuda-cudart and libcublas of CUDA 12 or 13 from NVIDIA's package repository";
  } else {
    finding.found = "in " + cuda.unlinked_dir + ", which the dynamic linker does not know";
    finding.fix = fmt::format("echo {} | sudo tee /etc/ld.so.conf.d/cuda.conf && sudo ldconfig",
                              cuda.unlinked_dir);
  }
  return finding;
}

Finding persistence(bool on) {
  Finding finding{.id = "nvidia-persistence",
                  .title = "Persistence of the NVIDIA driver",
                  .found = on ? "on" : "off"};
  if (on) return finding;
  finding.severity = Severity::kInfo;
  finding.wanted = "on, for a machine without a display";
  finding.why =
      "When the last program leaves the GPU the driver shuts it down, and the next one waits for "
      "it "
      "to start, a second or more (NVIDIA documentation, Driver Persistence)";
  finding.fix = "sudo systemctl enable --now nvidia-persistenced";
  return finding;
}

}  // namespace

void check_nvidia(const CheckInput& input, std::vector<Finding>& findings) {
  const Device* first = nullptr;
  std::optional<bool> persistent;
  for (const Device& device : input.machine.devices) {
    if (device.vendor != hardware::Vendor::kNvidia || device.software) continue;
    if (first == nullptr) first = &device;
    if (device.persistence) persistent = persistent.value_or(true) && *device.persistence;
  }
  if (first == nullptr) return;
  findings.push_back(driver(input, *first));
  if (!input.state.nvidia_version.empty()) findings.push_back(libraries(input, *first));
  if (persistent) findings.push_back(persistence(*persistent));
}

}  // namespace yoke::doctor
