// Which device computes what of a graph, and what is copied between them: ggml_backend_sched in
// llama.cpp. Private to the planner; pure; any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "planner/compute_graph.h"

namespace yoke::planner {

struct ScheduleOptions {
  std::int8_t devices = 1;   // The last one is the CPU.
  std::int8_t offload = -1;  // The GPU that computes large batches with weights of the host.
  std::uint64_t copies = 1;  // Of what goes in, where GPUs work on several batches in turn.
  std::vector<bool> vulkan;  // By GPU: lacks some operations and changes the order of others.
};

// One step: an operation, a copy to where a part of the graph is computed, or the use of what was
// copied.
struct Step {
  TensorId tensor = kNoTensor;
  TensorId used = kNoTensor;  // Set if nothing is computed: it has to last up to here.
  std::int8_t device = 0;
};

struct Schedule {
  std::vector<Step> steps;
  std::size_t parts = 0;     // Stretches on one device.
  std::vector<Step> leaves;  // In the order in which they get memory before the first step.
};

// Changes the graph's operands to the copies.
Schedule schedule(ComputeGraph& graph, const ScheduleOptions& options);

}  // namespace yoke::planner
