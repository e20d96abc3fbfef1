// The detectors that need a vendor's library (AMD SMI, NVML, HIP, CUDA, Vulkan). Each library is
// loaded in a short-lived process of its own: a driver that crashes, hangs or writes to stdout
// does not touch Yoke.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "hardware/observation.h"

namespace yoke::hardware {

struct ProbeOptions {
  // The program and the arguments before the probe's own, that ends up in run_probe_child().
  std::vector<std::string> command;
  // Directories to load libraries from in place of the system's; empty: the system's.
  std::vector<std::filesystem::path> library_dirs{};
  // Of each child, which is killed then.
  std::chrono::milliseconds limit{10'000};
};

// Runs the probes for `sources` side by side, one child each, and returns their observations in the
// order of `sources`; never fails: what went wrong is the observation's outcome. Blocks for as long
// as the slowest takes, at most the limit. A library that is not there costs no process.
std::vector<Observation> run_probes(const std::vector<Source>& sources,
                                    const ProbeOptions& options);

// The child's side: `arguments` are what run_probes() put behind its command. Writes the
// observation to the descriptor that they name and returns the exit code.
int run_probe_child(const std::vector<std::string>& arguments);

// What travels between the two. parse: kInvalidJson for anything else than what to_json made;
// bounded in size and counts.
std::string to_json(const Observation& observation);
Result<Observation> parse_observation(std::string_view text);

}  // namespace yoke::hardware
