// Scheduler: which models are loaded, and which request goes when to which of them. Pure: events
// with their time in, effects out; the same events have the same effects. Nothing blocks or fails.
//
// What it keeps to:
// - A model is loaded when somebody wants it. Its memory counts from Start until EngineStopped or
//   EngineFailed, so that two models never overlap in one budget.
// - To let one in, the idle ones whose loss costs least are stopped: by memory, the time to load
//   them again, how long ago they were used, and their priority. One that starts, stops, answers or
//   is pinned is never evicted.
// - Every request gets one answer, Dispatch or Reject, unless it is cancelled before. It gets a
//   Reject at once if its model can't fit.
// - Nobody starves: a model that has waited for its patience takes its turn. The models that have
//   to go for it then get only what is older than it, until they are idle.
//
// Owned by the control loop; all calls on its thread.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/effects.h"
#include "scheduler/events.h"
#include "scheduler/types.h"

namespace yoke::scheduler {

struct Options {
  // How long a model waits for others to become idle before they are made to: so many times as long
  // as it takes to load, within these bounds. A swap then never costs more than that part of the
  // time, and no request waits longer than the upper bound for its turn to begin.
  int patience_in_loads = 2;
  Duration min_patience{1'000};
  Duration max_patience{15'000};
};

enum class State {
  kUnloaded,
  kAdmitted,  // Has its place, and waits for the memory of those that are being stopped for it.
  kStarting,
  kReady,
  kStopping,
};
// "unloaded", "admitted", "starting", "ready", "stopping": stable, for API replies.
std::string_view name_of(State state);
// "idle", "evicted", "replaced", "removed", "asked", "over_budget".
std::string_view name_of(StopReason reason);

// What will happen to a model next, if nothing new comes.
struct NextAction {
  enum class Kind {
    kNothing,
    kUnloads,         // At `time`, for being idle.
    kStopsWhenDone,   // With what it answers; `model` (if any) gets its place.
    kReady,           // About at `time`.
    kWaitsToFinish,   // `model` is in its way.
    kWaitsForMemory,  // Of `model`, which is being stopped.
    kWaitsToStop,     // Its own processes.
    kStartsAgain,     // At `time`, after a failure.
    kGaveUp,          // Tried again when it is asked for after `time`.
    kTooLarge,        // It is not loaded as long as this holds: see ModelStatus::error.
  };
  Kind kind = Kind::kNothing;
  Time time = Time::max();
  std::string model{};
};
// "unloads in 3 min", "waits for chat to finish"; empty for kNothing.
std::string describe(const NextAction& next, Time now);

struct ModelStatus {
  std::string name;
  State state = State::kUnloaded;
  Run run = 0;  // 0: none.
  bool pinned = false;
  Needs needs;              // What it holds, or would.
  bool measured = false;    // The needs are, and are not the plan's.
  std::size_t active = 0;   // Requests that it answers.
  std::size_t waiting = 0;  // Requests that wait for it.
  std::optional<Time> last_used;
  Duration load_time{0};
  NextAction next;
  std::optional<Error> error;  // Why it failed last, or can't be loaded.
};

struct PoolStatus {
  PoolId pool = 0;
  std::string name;
  std::uint64_t budget = 0;
  std::uint64_t used = 0;      // By engines that start, run or stop.
  std::uint64_t promised = 0;  // To models that are admitted.
};

class Scheduler {
 public:
  explicit Scheduler(Options options = {});
  ~Scheduler();
  Scheduler(Scheduler&&) noexcept;
  Scheduler& operator=(Scheduler&&) noexcept;

  // `now` never goes back; a time before the last one counts as that one. The effects are to be
  // carried out in their order.
  std::vector<Effect> handle(Time now, const Event& event);

  std::vector<ModelStatus> models(Time now) const;  // By name.
  std::vector<PoolStatus> pools() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace yoke::scheduler
