// What the scheduler says about itself.
#include <algorithm>

#include <fmt/format.h>

#include "base/units.h"
#include "scheduler/scheduler_impl.h"

namespace yoke::scheduler {
namespace {

using Kind = NextAction::Kind;

std::string in(Time time, Time now) {
  const auto left = std::chrono::ceil<std::chrono::seconds>(std::max(time, now) - now);
  return format_duration(std::chrono::duration_cast<Duration>(left));
}

}  // namespace

std::string_view name_of(State state) {
  switch (state) {
    case State::kUnloaded:
      return "unloaded";
    case State::kAdmitted:
      return "admitted";
    case State::kStarting:
      return "starting";
    case State::kReady:
      return "ready";
    case State::kStopping:
      return "stopping";
  }
  return "unknown";
}

std::string_view name_of(StopReason reason) {
  switch (reason) {
    case StopReason::kIdle:
      return "idle";
    case StopReason::kEvicted:
      return "evicted";
    case StopReason::kReplaced:
      return "replaced";
    case StopReason::kRemoved:
      return "removed";
    case StopReason::kAsked:
      return "asked";
    case StopReason::kOverBudget:
      return "over_budget";
  }
  return "unknown";
}

std::string describe(const NextAction& next, Time now) {
  switch (next.kind) {
    case Kind::kNothing:
      return "";
    case Kind::kUnloads:
      return "unloads in " + in(next.time, now);
    case Kind::kStopsWhenDone:
      return next.model.empty() ? "stops when it has answered"
                                : fmt::format("makes way for {} when it has answered", next.model);
    case Kind::kReady:
      return next.time > now ? "ready in about " + in(next.time, now) : "ready soon";
    case Kind::kWaitsToFinish:
      return next.model.empty() ? "waits for its turn"
                                : fmt::format("waits for {} to finish", next.model);
    case Kind::kWaitsForMemory:
      return next.model.empty() ? "waits for memory"
                                : fmt::format("waits for the memory of {}", next.model);
    case Kind::kWaitsToStop:
      return "starts again when it has stopped";
    case Kind::kStartsAgain:
      return "starts again in " + in(next.time, now);
    case Kind::kGaveUp:
      return next.time > now ? fmt::format("can be tried again in {}", in(next.time, now))
                             : "is tried again when it is asked for";
    case Kind::kTooLarge:
      return "does not fit";
  }
  return "";
}

NextAction Scheduler::Impl::next_of_unloaded(const Model& model) const {
  if (model.given_up) return {Kind::kGaveUp, model.retry_at};
  if (!model.wanted()) return {};
  if (model.retry_at > now) return {Kind::kStartsAgain, model.retry_at};
  if (impossible(model, find_pins())) return {Kind::kTooLarge};
  const auto in_way = in_the_way(model);
  // It could have those that are idle: another one's turn comes first.
  if (!in_way || in_way->empty()) {
    return {Kind::kWaitsToFinish, Time::max(),
            turn.holder != nullptr && turn.holder != &model ? turn.holder->spec.name : ""};
  }
  const auto busy = std::ranges::find_if(*in_way, [](const Model* other) {
    return other->active > 0 || other->state != State::kReady;
  });
  return {Kind::kWaitsToFinish, Time::max(),
          busy != in_way->end() ? (*busy)->spec.name : in_way->front()->spec.name};
}

NextAction Scheduler::Impl::next_action(const Model& model) const {
  switch (model.state) {
    case State::kUnloaded:
      return next_of_unloaded(model);
    case State::kAdmitted: {
      for (const auto& [name, other] : by_name) {
        if (other.state == State::kStopping) return {Kind::kWaitsForMemory, Time::max(), name};
      }
      return {Kind::kWaitsForMemory};
    }
    case State::kStarting:
      if (model.ending) return {Kind::kStopsWhenDone, Time::max(), model.ending->evicted_for};
      return {Kind::kReady, model.state_since + model.load_time};
    case State::kReady:
      if (model.ending) return {Kind::kStopsWhenDone, Time::max(), model.ending->evicted_for};
      if (model.to_go) return {Kind::kStopsWhenDone, Time::max(), turn.holder->spec.name};
      if (model.active > 0 || model.pinned() || model.spec.idle_timeout <= Duration(0)) return {};
      return {Kind::kUnloads, model.idle_since + model.spec.idle_timeout};
    case State::kStopping:
      if (model.wanted()) return {Kind::kWaitsToStop};
      return {};
  }
  return {};
}

std::vector<ModelStatus> Scheduler::models(Time now) const {
  impl_->now = std::max(impl_->now, now);
  std::vector<ModelStatus> all;
  for (const auto& [name, model] : impl_->by_name) {
    const Amounts& amounts = model.state == State::kUnloaded ? model.needs : model.held;
    all.push_back({name, model.state, model.run, model.pinned(), impl_->ledger.needs_of(amounts),
                   model.measured, model.active, model.queue.size(), model.last_used,
                   model.load_time, impl_->next_action(model), model.error});
  }
  return all;
}

std::vector<PoolStatus> Scheduler::pools() const {
  std::vector<PoolStatus> all;
  const auto& pools = impl_->ledger.pools();
  for (std::size_t i = 0; i < pools.size(); ++i) {
    all.push_back({pools[i].id, pools[i].name, pools[i].budget, at(impl_->ledger.held(), i),
                   at(impl_->ledger.promised(), i)});
  }
  return all;
}

}  // namespace yoke::scheduler
