// What of a model's load options takes memory, in the planner's terms. Pure; any thread.
#pragma once

#include "config/load_options.h"
#include "planner/model_shape.h"
#include "planner/plan.h"

namespace yoke::planner {

// For options in which everything is decided (engines::decide).
PlanRequest plan_request(ModelShape shape, const config::LoadOptions& options);

}  // namespace yoke::planner
