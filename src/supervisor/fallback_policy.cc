#include "supervisor/fallback_policy.h"

#include <algorithm>
#include <string_view>

namespace yoke::supervisor {

using engines::FailureClass;

namespace {
// Long batches run into the driver's watchdog; smaller ones may not (llama.cpp #21724).
constexpr std::string_view kSmallerHelps = "vulkan";
}  // namespace

FallbackPolicy::FallbackPolicy(std::vector<std::string> backends) {
  for (std::string& backend : backends) states_.push_back({std::move(backend)});
}

std::size_t FallbackPolicy::current(Clock::time_point now) const {
  const auto free =
      std::ranges::find_if(states_, [now](const State& state) { return state.until <= now; });
  if (free != states_.end()) return static_cast<std::size_t>(free - states_.begin());
  return states_.size() - 1;
}

FallbackPolicy::Clock::time_point FallbackPolicy::quarantined_until(std::size_t backend) const {
  return states_.at(backend).until;
}

int FallbackPolicy::quarantines(std::size_t backend) const {
  return states_.at(backend).quarantines;
}

bool FallbackPolicy::smaller(std::size_t backend) const { return states_.at(backend).smaller; }

void FallbackPolicy::restore(std::size_t backend, Clock::time_point until, int quarantines,
                             bool smaller) {
  State& state = states_.at(backend);
  state.until = until;
  state.quarantines = std::max(quarantines, 0);
  state.smaller = smaller;
}

void FallbackPolicy::clear(std::size_t backend) {
  State& state = states_.at(backend);
  state = {std::move(state.backend)};
  if (backend + 1 == states_.size()) restarts_ = {};
}

FallbackDecision FallbackPolicy::leave(State& state, Clock::time_point now) {
  if (state.until + kForgetAfter <= now) state.quarantines = 0;
  const auto longer = kFirstQuarantine * (1 << std::min(state.quarantines, 10));
  state.until = now + std::min<std::chrono::minutes>(longer, kLongestQuarantine);
  ++state.quarantines;
  state.crashes = 0;
  return {Remedy::kNext, std::chrono::milliseconds(0)};
}

FallbackDecision FallbackPolicy::after(std::size_t backend, const Ending& ending,
                                       Clock::time_point now) {
  State& state = states_.at(backend);
  if (ending.was_stable()) state.crashes = 0;
  const bool another = std::any_of(states_.begin(), states_.end(), [&](const State& other) {
    return &other != &state && other.until <= now;
  });
  // Other backends would need the same worker.
  const bool worker = ending.failure == FailureClass::kWorkerLost;
  if (!another || worker) {  // There is nothing to fall back to.
    const RestartDecision decision = restarts_.after(ending);
    if (!decision.restart) return {};
    return {Remedy::kSame, decision.delay};
  }
  switch (ending.failure) {
    case FailureClass::kBadModel:
    case FailureClass::kBadArguments:
      return {};  // No backend can load it.
    case FailureClass::kPortTaken:
      return {Remedy::kSame, std::chrono::milliseconds(0)};
    case FailureClass::kDeviceLost:
      if (state.backend == kSmallerHelps && !state.smaller) {
        state.smaller = true;
        return {Remedy::kSmaller, std::chrono::milliseconds(0)};
      }
      return leave(state, now);
    case FailureClass::kCrash:
      if (ending.was_ready && ++state.crashes < 2) {
        return {Remedy::kSame, std::chrono::milliseconds(0)};
      }
      return leave(state, now);
    case FailureClass::kOutOfMemory:
    case FailureClass::kGpuFault:
    case FailureClass::kGpuHang:
    case FailureClass::kWrongOutput:
    case FailureClass::kLoadFailed:
    case FailureClass::kStartTimeout:
    case FailureClass::kWorkerLost:  // Not here.
      return leave(state, now);
  }
  return leave(state, now);
}

}  // namespace yoke::supervisor
