// When an engine that died is started again. Pure: what happened in, what to do out.
// One per instance, on the control loop's thread.
#pragma once

#include <chrono>
#include <cstdint>

#include "engines/failure.h"

namespace yoke::supervisor {

// How one life of an engine process ended.
struct Ending {
  engines::FailureClass failure = engines::FailureClass::kCrash;
  bool was_ready = false;
  std::chrono::milliseconds served{0};  // How long it was ready.
  std::uint64_t answers = 0;            // How many requests it answered.

  // It was of use, so that what befell it says little about the next life.
  bool was_stable() const;
};

struct RestartDecision {
  bool restart = false;  // Otherwise wait until somebody asks for the model again.
  std::chrono::milliseconds delay{0};
  friend bool operator==(const RestartDecision&, const RestartDecision&) = default;
};

class RestartPolicy {
 public:
  // A life of at least this long, or with so many answers, wipes earlier failures out.
  static constexpr std::chrono::minutes kStableAfter{5};
  static constexpr std::uint64_t kStableAnswers = 20;
  // After this many failures in a row it is left alone.
  static constexpr int kMaxFailures = 6;
  // Of which this many before the engine was ever ready: loading again rarely helps.
  static constexpr int kMaxLoadFailures = 2;

  RestartDecision after(const Ending& ending);

 private:
  int failures_ = 0;       // In a row.
  int load_failures_ = 0;  // In a row.
};

}  // namespace yoke::supervisor
