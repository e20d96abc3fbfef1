// A model as the scheduler sees it. Owned by the scheduler; only for this module's sources.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "scheduler/ledger.h"
#include "scheduler/scheduler.h"
#include "scheduler/wait_queue.h"

namespace yoke::scheduler {

// It is stopped as soon as it answers nothing, and gets nothing to answer until then.
struct Ending {
  StopReason reason = StopReason::kAsked;
  std::string evicted_for{};
};

struct Model {
  ModelSpec spec;
  State state = State::kUnloaded;
  Time state_since{};
  Run run = 0;
  std::string run_revision;
  Amounts needs;          // What a start takes.
  bool measured = false;  // So are the needs.
  Amounts held;           // What the ledger has for it in this state.
  std::optional<bool> user_pin;
  bool removed = false;  // It goes as soon as it is unloaded.
  bool asked = false;    // Somebody said Load.
  bool warm = false;     // It was loaded, or is to be from the start: if nobody is evicted for it.
  Place wanted_since;    // By other than requests.
  std::optional<Ending> ending;
  bool to_go = false;       // It is in the way of the one whose turn it is,
  bool yields = false;      // and has served for long enough.
  std::uint64_t batch = 0;  // The last place that was given when it got ready.
  std::size_t active = 0;
  WaitQueue queue;
  Time idle_since{};
  std::optional<Time> last_used;
  Duration load_time{0};
  std::optional<Error> error;
  bool given_up = false;
  Time retry_at = Time::min();
  std::vector<Model*> rivals;  // Never loaded beside it.

  bool pinned() const { return user_pin.value_or(spec.pinned); }
  bool wanted() const { return !queue.empty() || asked || warm || (pinned() && !given_up); }
  // Somebody would have to be evicted for it, if need be.
  bool wanted_badly() const { return !queue.empty() || asked || (pinned() && !given_up); }
  bool stays() const { return !ending && (state == State::kStarting || state == State::kReady); }
  bool holds_memory() const { return state >= State::kStarting; }
  Place place() const;   // Since when it is wanted.
  int priority() const;  // The highest with which it is wanted.
};

}  // namespace yoke::scheduler
