#include "supervisor/route_table.h"

#include <algorithm>

namespace yoke::supervisor {

std::string_view name_of(InstanceState state) {
  switch (state) {
    case InstanceState::kPlanned:
      return "planned";
    case InstanceState::kStarting:
      return "starting";
    case InstanceState::kChecking:
      return "checking";
    case InstanceState::kReady:
      return "ready";
    case InstanceState::kDraining:
      return "draining";
    case InstanceState::kStopped:
      return "stopped";
    case InstanceState::kFailed:
      return "failed";
  }
  return "unknown";
}

const Route* RouteTable::find(std::string_view model) const {
  const auto found = std::ranges::find(routes, model, &Route::model);
  return found == routes.end() ? nullptr : &*found;
}

}  // namespace yoke::supervisor
