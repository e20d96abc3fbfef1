// `yoke detect`: what can compute here, and how Yoke knows. Main thread only.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "hardware/detect.h"

namespace yoke::cli {

struct DetectCommandOptions {
  std::string root;  // A copy of a machine's files; empty: this machine.
  bool json = false;
  bool load_libraries = false;  // Those under `root` too.
  bool software = false;        // Offer software Vulkan devices.
  bool no_bandwidth = false;    // Don't measure the memory's bandwidth.
};

// The hidden command that a probe's child is started with.
inline constexpr std::string_view kProbeCommand = "__probe";

Result<void> detect(const DetectCommandOptions& options);

// How the commands detect: the libraries of this machine in children of this program, or those
// under `root` if asked for. kInvalidArgument if `root` is no directory.
Result<hardware::DetectOptions> hardware_options(const std::string& root, bool load_libraries);

}  // namespace yoke::cli
