// What is known about how models run, as JSON for the API. Pure; any thread.
#pragma once

#include <string>
#include <vector>

#include "store/store.h"
#include "supervisor/explanation.h"

namespace yoke::gateway {

// The body for GET /yoke/v1/explain. `now` is what the remaining time of a quarantine counts from.
std::string explanation_json(const supervisor::Explanation& explanation, store::Time now);

// The body for GET /yoke/v1/quarantine: {"quarantines":[...]}.
std::string quarantines_json(const std::vector<store::Quarantine>& quarantines, store::Time now);

}  // namespace yoke::gateway
