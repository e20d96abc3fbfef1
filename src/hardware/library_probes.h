// The five probes. Each asks one vendor's library, which is loaded already, and adds what it says
// to the observation; the error is what went wrong, as a sentence for people. They run foreign
// code: only in a probe's child, on its one thread.
#pragma once

#include <algorithm>
#include <cstddef>

#include <fmt/format.h>

#include "base/result.h"
#include "hardware/dynamic_library.h"
#include "hardware/observation.h"

namespace yoke::hardware {

Result<void> probe_amd_smi(const DynamicLibrary& library, Observation& observation);
Result<void> probe_nvml(const DynamicLibrary& library, Observation& observation);
Result<void> probe_hip(const DynamicLibrary& library, Observation& observation);
Result<void> probe_cuda(const DynamicLibrary& library, Observation& observation);
Result<void> probe_vulkan(const DynamicLibrary& library, Observation& observation);

// More than any machine has: what a library counts is cut to it, with a note.
inline constexpr std::size_t kMostProbedDevices = 128;

template <class Number>
Number limited_count(Number count, Observation& observation) {
  constexpr auto kMost = static_cast<Number>(kMostProbedDevices);
  if (count > kMost) {
    observation.notes.push_back(
        fmt::format("Only the first {} of {} devices are listed.", kMostProbedDevices, count));
  }
  return std::clamp(count, Number{0}, kMost);
}

}  // namespace yoke::hardware
