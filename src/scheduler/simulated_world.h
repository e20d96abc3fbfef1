// For tests: engines and clients that do what a scheduler says, in simulated time, and check that
// it keeps its promises. The same seed does the same.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <queue>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "scheduler/scheduler.h"

namespace yoke::scheduler {

class SimulatedWorld {
 public:
  struct Limits {
    bool wild = false;          // Engines fail, users give commands, the configuration changes.
    bool slots = false;         // Models answer a few requests at once only.
    std::size_t steps = 4'000;  // Events, before everybody is let finish.
  };
  struct Outcome {
    std::vector<std::string> broken_promises;  // Empty if all is well.
    std::size_t steps = 0;
    std::size_t requests = 0;
    std::size_t dispatched = 0;
    std::size_t rejected = 0;
    std::size_t starts = 0;
    std::size_t evictions = 0;
    std::size_t turns = 0;  // Requests that waited for longer than the patience.
    Duration longest_wait{0};
    std::uint64_t fingerprint = 0;  // Of all effects.
  };

  SimulatedWorld(std::uint64_t seed, Limits limits);
  Outcome run();

 private:
  enum class Life { kStarting, kReady, kStopping };
  struct Engine {
    std::string model;
    std::string revision;
    Needs held;
    Life life = Life::kStarting;
    std::set<RequestId> active;
  };
  struct ModelState {
    ModelSpec spec;
    Needs needs;
    std::optional<bool> user_pin;
    bool there = true;
    bool pinned() const { return there && user_pin.value_or(spec.pinned); }
  };
  struct Request {
    std::string model;
    Time arrived;
    Time deadline = Time::max();
    bool waiting = true;
    Run run = 0;
  };
  struct Planned {
    Time time;
    std::uint64_t number;
    Event event;
    bool operator>(const Planned& other) const {
      return time != other.time ? time > other.time : number > other.number;
    }
  };

  std::uint64_t below(std::uint64_t end) { return random_() % end; }
  Duration up_to(Duration limit) {
    return Duration(1 + below(static_cast<std::uint64_t>(limit.count())));
  }
  bool chance(unsigned percent) { return below(100) < percent; }
  void later(Duration delay, Event event) {
    planned_.push({now_ + delay, ++number_, std::move(event)});
  }

  ModelSpec random_spec(std::size_t i);
  void set_up();
  void act();
  void act_wildly();
  void arrive();
  void happen(const Event& event);
  bool is_stale(const Event& event) const;
  void note(const Event& event);
  void carry_out(const Effect& effect);
  void carry_out(const Start& start);
  void carry_out(const Stop& stop);
  void carry_out(const Dispatch& dispatch);
  void carry_out(const Reject& reject);
  void expect(bool held, const std::string& promise);
  Duration longest_fair_wait() const;
  std::string state() const;  // For messages.
  bool excluded(const std::string& a, const std::string& b) const;
  std::uint64_t held_of(PoolId pool) const;

  const Limits limits_;
  std::mt19937_64 random_;
  Scheduler scheduler_;
  Time now_{};
  Time wake_ = Time::max();
  std::uint64_t number_ = 0;
  RequestId last_request_ = 0;
  bool closing_ = false;  // Nobody asks any more, and nothing fails.
  std::priority_queue<Planned, std::vector<Planned>, std::greater<>> planned_;
  std::map<PoolId, std::uint64_t> budgets_;
  std::map<std::string, ModelState> models_;
  std::vector<std::string> names_;
  std::set<std::pair<std::string, std::string>> exclusive_;
  std::map<Run, Engine> engines_;
  std::map<RequestId, Request> requests_;
  std::vector<RequestId> recent_;
  Outcome outcome_;
};

}  // namespace yoke::scheduler
