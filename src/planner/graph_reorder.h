// How the Vulkan backend changes the order of operations. Private to the planner; pure; any thread.
#pragma once

#include <utility>
#include <vector>

#include "planner/compute_graph.h"

namespace yoke::planner {

// A tensor, and the operation up to which it is kept because both are computed as one.
using Keeps = std::vector<std::pair<TensorId, TensorId>>;

// ggml_vk_graph_optimize: operations that don't need each other are put side by side.
Keeps reorder(const ComputeGraph& graph, std::vector<TensorId>& nodes);

}  // namespace yoke::planner
