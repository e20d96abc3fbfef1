#include "supervisor/restart_policy.h"

#include <algorithm>

namespace yoke::supervisor {

using engines::FailureClass;

bool Ending::was_stable() const {
  return was_ready &&
         (served >= RestartPolicy::kStableAfter || answers >= RestartPolicy::kStableAnswers);
}

RestartDecision RestartPolicy::after(const Ending& ending) {
  switch (ending.failure) {
    case FailureClass::kBadModel:
    case FailureClass::kBadArguments:
    case FailureClass::kWrongOutput:
      return {};  // The same again would end the same way.
    default:
      break;
  }
  if (ending.was_ready) {
    load_failures_ = 0;
    if (ending.was_stable()) failures_ = 0;
  } else if (ending.failure != FailureClass::kPortTaken &&
             ending.failure != FailureClass::kWorkerLost) {  // It may come back any moment.
    ++load_failures_;
  }
  ++failures_;
  if (failures_ >= kMaxFailures || load_failures_ >= kMaxLoadFailures) {
    failures_ = load_failures_ = 0;
    return {};
  }
  if (ending.failure == FailureClass::kPortTaken) return {true, std::chrono::milliseconds(0)};
  // 0, 1, 2, 4, 8 seconds: the first crash should cost the users no more than the load itself.
  const int seconds = failures_ == 1 && ending.was_ready ? 0 : 1 << std::max(failures_ - 2, 0);
  return {true, std::chrono::seconds(seconds)};
}

}  // namespace yoke::supervisor
