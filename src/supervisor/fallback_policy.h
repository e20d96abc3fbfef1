// What follows the end of an engine: the same again, with smaller steps, the next backend, or
// nothing until somebody asks. Pure: what happened and when in, what to do out. One per instance,
// on the control loop's thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "supervisor/restart_policy.h"

namespace yoke::supervisor {

enum class Remedy {
  kSame,     // The same backend again.
  kSmaller,  // The same, with smaller batches.
  kNext,     // Another backend: this one is in quarantine, or could not load the model.
  kGiveUp,   // Left alone until it is asked for.
};

struct FallbackDecision {
  Remedy remedy = Remedy::kGiveUp;
  std::chrono::milliseconds delay{0};
  friend bool operator==(const FallbackDecision&, const FallbackDecision&) = default;
};

class FallbackPolicy {
 public:
  using Clock = std::chrono::steady_clock;

  // A backend that failed is left out for so long; twice as long each time after that.
  static constexpr std::chrono::minutes kFirstQuarantine{10};
  static constexpr std::chrono::hours kLongestQuarantine{24};

  // The backends in the order in which they are tried; at least one.
  explicit FallbackPolicy(std::vector<std::string> backends);

  FallbackDecision after(const Ending& ending, Clock::time_point now);

  // The one to start next: the first that is not in quarantine, else the last one.
  std::size_t current(Clock::time_point now) const;
  // When it may be tried again; in the past if it is not in quarantine.
  Clock::time_point quarantined_until(std::size_t backend) const;
  // Whether the current one is to be started with smaller batches.
  bool smaller() const { return smaller_; }

 private:
  struct State {
    std::string backend;
    Clock::time_point until{};  // End of its quarantine.
    int quarantines = 0;
    int crashes = 0;  // Since it was chosen.
  };
  FallbackDecision leave(std::size_t index, Clock::time_point now);

  std::vector<State> states_;
  RestartPolicy restarts_;  // Of the last resort.
  bool smaller_ = false;
};

}  // namespace yoke::supervisor
