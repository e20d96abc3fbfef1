// What the tests of the probes share: the fake libraries and how they are told what to do.
#pragma once

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "hardware/probe.h"

namespace yoke::hardware {

// An environment variable for as long as this lives. One thread.
class Variable {
 public:
  Variable(std::string name, const std::string& value) : name_(std::move(name)) {
    ::setenv(name_.c_str(), value.c_str(), 1);
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;
  ~Variable() { ::unsetenv(name_.c_str()); }

 private:
  std::string name_;
};

// "old", "current", "new" or "lacking" libraries.
inline ProbeOptions with_fakes(
    const char* which, std::chrono::milliseconds limit = std::chrono::milliseconds(60'000)) {
  return {.command = {YOKE_PROBE_CHILD},
          .library_dirs = {std::filesystem::path(YOKE_FAKE_LIBRARIES) / which},
          .limit = limit};
}

// FAKE_NVML for kNvml.
inline std::string behaviour_of(Source source) {
  switch (source) {
    case Source::kAmdSmi:
      return "FAKE_AMD_SMI";
    case Source::kNvml:
      return "FAKE_NVML";
    case Source::kHip:
      return "FAKE_HIP";
    case Source::kCuda:
      return "FAKE_CUDA";
    case Source::kVulkan:
      return "FAKE_VULKAN";
    case Source::kKfd:
    case Source::kDrm:
      break;
  }
  return {};
}

// What the probe of `source` says of a fake that behaves as `mode` says.
inline Observation probe_fake(Source source, const std::string& mode,
                              const char* which = "current") {
  const Variable behaviour(behaviour_of(source), mode);
  return run_probes({source}, with_fakes(which)).at(0);
}

}  // namespace yoke::hardware
