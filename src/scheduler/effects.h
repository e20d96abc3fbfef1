// What the scheduler wants done. Plain values; any thread.
#pragma once

#include <string>
#include <variant>

#include "base/error.h"
#include "scheduler/types.h"

namespace yoke::scheduler {

// Of a Reject. The error of a failed engine is handed on as it came.
inline constexpr ErrorCode kModelNotFound{"model_not_found"};
inline constexpr ErrorCode kModelLoading{"model_loading"};     // Not loaded by the deadline.
inline constexpr ErrorCode kModelBusy{"model_busy"};           // Too many wait, or for too long.
inline constexpr ErrorCode kModelTooLarge{"model_too_large"};  // For an empty memory.
inline constexpr ErrorCode kBlockedByPin{"blocked_by_pin"};    // Pinned models are in its way.
inline constexpr ErrorCode kModelUnloaded{"model_unloaded"};   // Somebody asked for that.

struct Start {
  std::string model;
  Run run = 0;
  friend bool operator==(const Start&, const Start&) = default;
};
enum class StopReason { kIdle, kEvicted, kReplaced, kRemoved, kAsked, kOverBudget };
// It answers nothing at this moment, and gets nothing to answer any more.
struct Stop {
  std::string model;
  Run run = 0;
  StopReason reason = StopReason::kIdle;
  std::string evicted_for{};  // The model that gets its place.
  friend bool operator==(const Stop&, const Stop&) = default;
};
// It is the model's from now on, until its RequestEnded or RequestCancelled.
struct Dispatch {
  RequestId request = 0;
  std::string model;
  Run run = 0;
  friend bool operator==(const Dispatch&, const Dispatch&) = default;
};
struct Reject {
  RequestId request = 0;
  Error error;
  Duration retry_after{0};  // 0: trying again is of no use as things are.
};
// A Tick is wanted then, if nothing else happens before. Replaces the last one; Time::max(): none.
struct WakeAt {
  Time time;
  friend bool operator==(const WakeAt&, const WakeAt&) = default;
};

using Effect = std::variant<Start, Stop, Dispatch, Reject, WakeAt>;

}  // namespace yoke::scheduler
