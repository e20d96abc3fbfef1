// Ended: how one life of an engine's process ended, as its instance tells it. Plain values; on the
// control loop's thread.
#pragma once

#include <string>

#include "base/error.h"
#include "supervisor/instance_context.h"
#include "supervisor/restart_policy.h"

namespace yoke::supervisor {

struct Ended {
  Ending ending{};
  Error error{kEngineFailed, {}, {}};
  std::string evidence{};        // A line of its log.
  bool short_of_memory = false;  // It said so, and was not just killed.
};

}  // namespace yoke::supervisor
