// What the scheduler knows a model by. Plain values; any thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace yoke::scheduler {

// Only compared and added to: nothing in this module asks the clock.
using Time = std::chrono::steady_clock::time_point;
using Duration = std::chrono::milliseconds;

using PoolId = std::uint32_t;     // Memory that is one budget.
using RequestId = std::uint64_t;  // The caller's; never used twice.
using Run = std::uint64_t;        // One life of an engine, from its start; never used twice.

struct Need {
  PoolId pool = 0;
  std::uint64_t bytes = 0;
  friend bool operator==(const Need&, const Need&) = default;
};
using Needs = std::vector<Need>;

struct ModelSpec {
  std::string name;
  // Stands for all that its engine is started with: another one means that it has to start anew.
  std::string revision;
  Needs needs;                    // As planned.
  Duration load_time{0};          // An estimate; 0: from its size. Measured loads replace it.
  int priority = 0;               // The higher, the sooner loaded and the later evicted.
  std::string group;              // See GroupsChanged; may be empty.
  Duration idle_timeout{0};       // It is unloaded when nobody used it for so long; 0: never.
  bool pinned = false;            // Loaded as soon as it can be, and never evicted.
  bool preload = false;           // Loaded when it is new, if that evicts nobody.
  std::size_t max_active = 0;     // Requests that it answers at once; 0: any number.
  std::size_t max_waiting = 512;  // Requests that wait for it.
  friend bool operator==(const ModelSpec&, const ModelSpec&) = default;
};

}  // namespace yoke::scheduler
