// How much memory a schedule needs at one time: ggml_gallocr in llama.cpp, which gives each tensor
// the best fitting hole and takes it back after the last use. Private to the planner; pure; any
// thread.
#pragma once

#include <cstdint>
#include <vector>

#include "planner/graph_schedule.h"

namespace yoke::planner {

struct BufferTraits {
  std::uint64_t alignment = 64;
  std::uint64_t largest = ~std::uint64_t{0} / 2;  // Bytes in one piece; then another is begun.
};

// Bytes by device.
std::vector<std::uint64_t> buffer_sizes(const ComputeGraph& graph, const Schedule& schedule,
                                        const std::vector<BufferTraits>& devices);

}  // namespace yoke::planner
