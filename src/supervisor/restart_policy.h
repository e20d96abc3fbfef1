// When an engine that died is started again. Pure: what happened in, what to do out.
// One per instance, on the control loop's thread.
#pragma once

#include <chrono>

#include "engines/failure.h"

namespace yoke::supervisor {

// How one life of an engine process ended.
struct Ending {
  engines::FailureClass failure = engines::FailureClass::kCrash;
  bool was_ready = false;
  std::chrono::milliseconds served{0};  // How long it was ready.
};

struct RestartDecision {
  bool restart = false;  // Otherwise wait until somebody asks for the model again.
  std::chrono::milliseconds delay{0};
  friend bool operator==(const RestartDecision&, const RestartDecision&) = default;
};

class RestartPolicy {
 public:
  // A life of at least this long wipes earlier failures out.
  static constexpr std::chrono::minutes kStableAfter{5};
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
