// Plan: which layers of a model lie where, and whether that fits. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "planner/inventory.h"
#include "planner/memory.h"

namespace yoke::planner {

struct Share {
  std::uint32_t device = 0;  // Index into Inventory::devices.
  std::uint32_t first_layer = 0;
  std::uint32_t layers = 0;  // 0: none, only what the engine keeps there.
  bool output = false;
  DeviceMemory memory;
};

struct PoolUse {
  std::uint32_t pool = 0;
  std::uint64_t planned = 0;  // Bytes.
  std::uint64_t usable = 0;
};

struct Plan {
  bool fits = false;
  std::vector<Share> shares;     // By device; those that hold something.
  std::vector<PoolUse> pools;    // All of the inventory's.
  std::uint32_t gpu_layers = 0;  // As --n-gpu-layers: the output counts as one.
  std::uint64_t missing = 0;     // Bytes, where it does not fit.
  std::string why;               // One sentence: what fits, or what is too small.
  std::vector<std::string> notes;
};

struct PlanRequest {
  ModelShape shape;
  RunOptions options;
  int gpu_layers = -1;        // As n_gpu_layers; -1: all, if they fit, else as many as do.
  std::vector<double> split;  // The user's tensor_split over the GPUs; empty: by what fits.
};

// The placement that fits best: all layers on GPUs as far as memory goes, the rest on the CPU,
// every device the same part of its usable memory. What fits on the engine's own machine goes to no
// other. Errors of estimate_memory.
Result<Plan> make_plan(const PlanRequest& request, const Inventory& inventory);

// The placement of `plan`, which is for the same model, under the options of `request`.
Result<Plan> plan_in_place(const Plan& plan, const PlanRequest& request,
                           const Inventory& inventory);

// The longest context that fits, in tokens, a multiple of 256 and not longer than the model was
// trained for; none if not even 256 do. With as many layers on GPUs as the plan for the request's
// own context has, if that fits. Errors of estimate_memory.
Result<std::optional<std::uint64_t>> longest_context(const PlanRequest& request,
                                                     const Inventory& inventory);

// Options with which a model fits that does not with the request's.
struct Remedy {
  std::string change;  // As options of `yoke plan`: "--flash-attn on --ctx 4096".
  RunOptions options;
};

struct Remedies {
  std::vector<Remedy> remedies;  // The least change first.
  std::uint64_t missing = 0;     // Without any: what the smallest options still miss, in bytes.
};

Result<Remedies> find_remedies(const PlanRequest& request, const Inventory& inventory);

// What the placement has to be said to llama-server as: --tensor-split, one number per GPU in the
// inventory's order (beside Plan::gpu_layers). Empty without GPUs.
std::vector<std::uint32_t> tensor_split_of(const Plan& plan, const Inventory& inventory);

}  // namespace yoke::planner
