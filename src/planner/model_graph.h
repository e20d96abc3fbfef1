// The graph that llama.cpp reserves memory for: a whole model on one ubatch. Private to the
// planner; pure; any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "planner/compute_graph.h"
#include "planner/model_shape.h"

namespace yoke::planner {

struct GraphRequest {
  std::uint64_t tokens = 512;
  std::uint64_t sequences = 1;
  std::uint64_t outputs = 1;  // Tokens whose results are wanted.
  std::uint64_t cells = 0;    // Of one stream of the cache, in layers that attend to everything,
  std::uint64_t sliding_cells = 0;  // and in the others.
  std::uint64_t streams = 1;
  Element key_type = kHalf;
  Element value_type = kHalf;
  bool flash_attention = true;
  bool rotated_keys = false;  // Keys and queries are rotated before they are quantized,
  bool rotated_values = false;
  std::uint64_t widest_values = 0;  // Elements of the widest layer's values.
  bool embeddings = false;
};

// Devices count as the engine's scheduler does: GPUs from 0, the CPU last.
struct GraphLayer {
  const LayerKind* kind = nullptr;
  std::int8_t device = 0;
  std::int8_t scan_device = 0;  // Where the matrix of its scan lies.
};

struct GraphPlaces {
  std::int8_t cpu = 0;
  std::int8_t output = 0;
  bool pin_norms = false;  // A layer's norms are computed where its weights are.
};

ComputeGraph model_graph(const ModelShape& shape, const std::vector<GraphLayer>& layers,
                         const GraphPlaces& places, const GraphRequest& request);

}  // namespace yoke::planner
