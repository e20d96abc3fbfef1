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
  // A backend that was well for so long after its quarantine begins with a short one again.
  static constexpr std::chrono::hours kForgetAfter{24 * 7};

  // The backends in the order in which they are tried; at least one.
  explicit FallbackPolicy(std::vector<std::string> backends);

  // One life of this backend ended.
  FallbackDecision after(std::size_t backend, const Ending& ending, Clock::time_point now);

  // The one to start next: the first that is not in quarantine, else the last one.
  std::size_t current(Clock::time_point now) const;
  // When it may be tried again; in the past if it is not in quarantine.
  Clock::time_point quarantined_until(std::size_t backend) const;
  // How often it has been in quarantine.
  int quarantines(std::size_t backend) const;
  // It is to be started with smaller batches, because its device was lost with the usual ones.
  bool smaller(std::size_t backend) const;
  // What an earlier policy for the same knew.
  void restore(std::size_t backend, Clock::time_point until, int quarantines, bool smaller);
  // As if it had never failed.
  void clear(std::size_t backend);

 private:
  struct State {
    std::string backend;
    Clock::time_point until{};  // End of its quarantine.
    int quarantines = 0;
    int crashes = 0;  // Since it was chosen.
    bool smaller = false;
  };
  static FallbackDecision leave(State& state, Clock::time_point now);

  std::vector<State> states_;
  RestartPolicy restarts_;  // Of the last resort.
};

}  // namespace yoke::supervisor
