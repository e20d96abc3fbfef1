// CLOCK_MONOTONIC, the one clock of the program: clients on the same machine can compare it with
// their own.
#pragma once

#include <cstdint>
#include <time.h>

namespace fake_engine {

inline constexpr int64_t kNsPerMs = 1'000'000;
inline constexpr int64_t kNsPerS = 1'000'000'000;

inline int64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kNsPerS + now.tv_nsec;
}

}  // namespace fake_engine
