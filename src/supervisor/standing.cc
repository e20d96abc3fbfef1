#include "supervisor/standing.h"

#include <algorithm>

namespace yoke::supervisor {
namespace {

using engines::FailureClass;
using SteadyClock = FallbackPolicy::Clock;
using SystemClock = std::chrono::system_clock;

// Drivers are updated that often; then small batches may be needed no longer.
constexpr auto kSmallerFor = std::chrono::hours(24 * 7);
constexpr std::size_t kFailuresToLookAt = 100;

std::vector<std::string> backends_of(const std::vector<Engine>& engines) {
  std::vector<std::string> backends;
  for (const Engine& engine : engines) backends.push_back(engine.install.backend);
  if (backends.empty()) backends.emplace_back();
  return backends;
}

SteadyClock::time_point steady(store::Time time) {
  const auto left = std::chrono::duration_cast<SteadyClock::duration>(time - SystemClock::now());
  return SteadyClock::now() + left;
}

}  // namespace

Standing::Standing(std::string model, const std::vector<Engine>& engines, History& history)
    : model_(std::move(model)),
      engines_(engines),
      history_(history),
      policy_(backends_of(engines)) {}

store::Case Standing::of(std::size_t engine) const {
  const Engine& chosen = engines_.at(engine);
  return {model_, file_, chosen.install.backend, full_name(chosen), chosen.driver};
}

void Standing::look_at(const std::string& file) {
  if (file == file_) return;
  file_ = file;
  const auto failures = history_.failures(model_, kFailuresToLookAt);
  for (std::size_t i = 0; i < engines_.size(); ++i) {
    policy_.clear(i);
    const store::Case known = of(i);
    const auto quarantine = history_.quarantine(known);
    const bool lost = std::ranges::any_of(failures, [&](const store::FailureRecord& failure) {
      return failure.of == known && failure.failure == name_of(FailureClass::kDeviceLost) &&
             SystemClock::now() - failure.time < kSmallerFor;
    });
    policy_.restore(i, quarantine ? steady(quarantine->until) : SteadyClock::time_point{},
                    quarantine ? quarantine->count : 0, lost);
  }
}

std::size_t Standing::current() const { return policy_.current(SteadyClock::now()); }

std::chrono::milliseconds Standing::left_out_for(std::size_t engine) const {
  const auto left = policy_.quarantined_until(engine) - SteadyClock::now();
  return std::max(std::chrono::ceil<std::chrono::milliseconds>(left), std::chrono::milliseconds(0));
}

FallbackDecision Standing::after(std::size_t engine, const Ending& ending,
                                 const std::string& message, const std::string& evidence) {
  const FallbackDecision decision = policy_.after(engine, ending, SteadyClock::now());
  if (engines_.empty()) return decision;
  const auto now = SystemClock::now();
  const std::string failure(engines::name_of(ending.failure));
  history_.add({of(engine), failure, message, evidence, now});
  if (decision.remedy == Remedy::kNext) {
    history_.put({of(engine), failure, message, now, now + left_out_for(engine),
                  policy_.quarantines(engine)});
  }
  return decision;
}

void Standing::clear(std::string_view backend) {
  for (std::size_t i = 0; i < engines_.size(); ++i) {
    if (backend.empty() || engines_[i].install.backend == backend) policy_.clear(i);
  }
}

}  // namespace yoke::supervisor
