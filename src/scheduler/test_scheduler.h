// For tests: a scheduler with short words for events, and effects as text.
#pragma once

#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "scheduler/scheduler.h"

namespace yoke::scheduler {

inline constexpr std::uint64_t kGiB = 1u << 30;
using Words = std::vector<std::string>;

// One pool of 24 GiB. Times are seconds from the start.
class TestScheduler {
 public:
  TestScheduler() { tell(PoolChanged{0, "unified memory", 24 * kGiB}); }

  static ModelSpec model(std::string name, std::uint64_t gib) {
    ModelSpec spec;
    spec.name = std::move(name);
    spec.revision = "1";
    spec.needs = {{0, gib * kGiB}};
    spec.load_time = Duration(10'000);
    return spec;
  }
  Words add(ModelSpec spec) { return tell(ModelsChanged{{std::move(spec)}, {}}); }

  void at(double seconds) { now_ = Time(Duration(static_cast<std::int64_t>(seconds * 1000))); }
  // "start chat", "stop chat for big", "dispatch 1 to chat", "reject 1 model_busy".
  Words tell(const Event& event) {
    Words words;
    for (const Effect& effect : scheduler_.handle(now_, event)) {
      if (const auto* wake = std::get_if<WakeAt>(&effect)) {
        wake_ = wake->time;
      } else {
        words.push_back(text(effect));
      }
    }
    return words;
  }
  Words request(RequestId id, std::string name, int priority = 0) {
    return tell(RequestArrived{.request = id, .model = std::move(name), .priority = priority});
  }
  Words tick() { return tell(Tick{}); }
  Words ready(const std::string& name) { return tell(EngineReady{run(name)}); }
  Words stopped(const std::string& name) { return tell(EngineStopped{run(name)}); }
  Words fail(const std::string& name, FailureKind kind, double delay, Needs needs = {}) {
    return tell(EngineFailed{run(name),
                             kind,
                             {kInternal, "It crashed."},
                             Duration(static_cast<std::int64_t>(delay * 1000)),
                             std::move(needs)});
  }
  // From nothing to ready, and idle.
  void load(ModelSpec spec) {
    const std::string name = spec.name;
    add(std::move(spec));
    tell(Load{name});
    ready(name);
  }

  ModelStatus status(const std::string& name) const {
    for (ModelStatus& status : scheduler_.models(now_)) {
      if (status.name == name) return status;
    }
    return {};
  }
  Run run(const std::string& name) const { return status(name).run; }
  std::string next(const std::string& name) const { return describe(status(name).next, now_); }
  double wake() const { return std::chrono::duration<double>(wake_.time_since_epoch()).count(); }
  bool wants_no_wake() const { return wake_ == Time::max(); }
  std::uint64_t used_gib() const { return scheduler_.pools().front().used / kGiB; }
  const Reject& last_reject() const { return last_reject_; }

 private:
  std::string text(const Effect& effect) {
    if (const auto* start = std::get_if<Start>(&effect)) return "start " + start->model;
    if (const auto* stop = std::get_if<Stop>(&effect)) {
      return stop->evicted_for.empty()
                 ? fmt::format("stop {}: {}", stop->model, name_of(stop->reason))
                 : fmt::format("stop {} for {}", stop->model, stop->evicted_for);
    }
    if (const auto* dispatch = std::get_if<Dispatch>(&effect)) {
      return fmt::format("dispatch {} to {}", dispatch->request, dispatch->model);
    }
    last_reject_ = std::get<Reject>(effect);
    return fmt::format("reject {} {}", last_reject_.request, last_reject_.error.code.name());
  }

  Scheduler scheduler_;
  Time now_{};
  Time wake_ = Time::max();
  Reject last_reject_{0, {kInternal, {}}};
};

}  // namespace yoke::scheduler
