// Residency: which models are in memory, and what comes next. Plain
// values; any thread.
#pragma once

#include <chrono>
#include <vector>

#include "scheduler/scheduler.h"

namespace yoke::supervisor {

struct Residency {
  std::chrono::steady_clock::time_point now;   // What the times in it are to be compared with.
  std::vector<scheduler::ModelStatus> models;  // By name.
  std::vector<scheduler::PoolStatus> pools;
};

}  // namespace yoke::supervisor
