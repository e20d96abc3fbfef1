// How the Vulkan backend changes the order of operations. Private to the planner; pure; any thread.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "planner/compute_graph.h"

namespace yoke::planner {

// A tensor, and the operation up to which it is kept because both are computed as one.
using Keeps = std::vector<std::pair<TensorId, TensorId>>;

// By tensor: how many operations need it.
using UseCounts = std::vector<std::uint32_t>;
UseCounts use_counts(const ComputeGraph& graph);

// ggml_vk_graph_optimize: operations that don't need each other are put side by side.
Keeps reorder(const ComputeGraph& graph, const UseCounts& uses, std::vector<TensorId>& nodes);

}  // namespace yoke::planner
