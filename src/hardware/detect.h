// The detection chain: every detector asked, their answers merged. Blocks; any thread.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "hardware/host_files.h"
#include "hardware/machine.h"
#include "hardware/probe.h"

namespace yoke::hardware {

struct DetectOptions {
  HostFiles files;
  // How to run a probe. Without a command no library is asked: for a copy of another machine's
  // files the libraries of this one would say nothing true.
  ProbeOptions probes{};
  bool measure_bandwidth = false;
  // Whether a software Vulkan device counts as usable; it is listed either way.
  bool offer_software = false;
};

Machine detect(const DetectOptions& options);

// The devices of all observations, merged by PCI address, with their memory budget; what can use
// them is not judged yet. Pure.
std::vector<Device> merge_devices(const std::vector<Observation>& observations, const Host& host);

// For `yoke detect --json`, the API and bug reports.
std::string to_json(const Machine& machine);

}  // namespace yoke::hardware
