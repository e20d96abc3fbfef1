// What a ubatch's intermediate results take on each device. Private to the planner; pure; any
// thread.
#pragma once

#include <cstdint>
#include <vector>

#include "planner/kv_cache.h"
#include "planner/memory.h"

namespace yoke::planner {

// Bytes by device of the placement.
std::vector<std::uint64_t> compute_buffers(const ModelShape& shape, const RunOptions& options,
                                           const Placement& placement, const CacheCells& cells);

// Whether the engine leaves a small part of the layer's weights on the host, for a scan that Vulkan
// can't compute.
bool leaves_scan_to_host(const ModelShape& shape, const LayerShape& layer,
                         const PlacedDevice& device);

// How many tokens of a batch have results at most.
std::uint64_t most_outputs(const ModelShape& shape, const RunOptions& options);

}  // namespace yoke::planner
