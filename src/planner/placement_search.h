// The search for where a model's layers go. Private to the planner; pure; one thread at a time per
// object.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "planner/plan.h"

namespace yoke::planner {

// How many of a model's items each device has: items are the layers and, as the last one, the
// output. The CPU's are the first of them, then come the other devices' in their order.
using Counts = std::vector<std::uint32_t>;

// A placement and what follows from it.
struct Trial {
  Counts counts;
  MemoryEstimate memory;
  std::vector<std::uint64_t> pools;   // Bytes in each.
  std::uint64_t missing = 0;          // Bytes.
  std::uint64_t missing_on_gpus = 0;  // Of these, what layers on the CPU would save.
  double fullest = 0;     // The largest part of what it can use that a GPU or its pool needs.
  double unevenness = 0;  // The sum of their squares.
};

// The placements of one request. Refers to what it is made of.
class Placements {
 public:
  enum class Goal { kBest, kAnyThatFits };  // The second takes less time.

  // Errors of estimate_memory.
  static Result<Placements> of(const PlanRequest& request, const Inventory& inventory,
                               Goal goal = Goal::kBest);

  const PlanRequest& request() const { return *request_; }
  const Inventory& inventory() const { return *inventory_; }
  std::span<const std::uint32_t> gpus() const { return gpus_; }  // All devices but the CPU.

  Result<Trial> trial(const Counts& counts) const;
  Result<Trial> best() const;

  // Of a model that fits on one GPU only without some experts: those of how many layers would have
  // to be on the CPU. By their sizes only.
  std::optional<std::uint32_t> experts_to_move() const;

 private:
  Placements(const PlanRequest& request, const Inventory& inventory, Goal goal);

  std::uint32_t items() const {
    return static_cast<std::uint32_t>(request_->shape.layers.size()) + 1;
  }
  void measure_items();
  bool good_enough(const Trial& trial) const {
    return goal_ == Goal::kAnyThatFits && trial.missing == 0;
  }
  Placement placement_of(const Counts& counts) const;
  void tally(Trial& trial) const;
  // The items from `on_cpu` on over those GPUs, each the same part of what it can use.
  Result<Trial> spread(std::uint32_t on_cpu, std::span<const std::uint32_t> gpus,
                       bool polished) const;
  Result<Trial> balance(std::uint32_t on_cpu, std::span<const std::uint32_t> gpus) const;
  Result<Trial> polish(Trial trial, std::span<const std::uint32_t> gpus) const;
  // As few items on the CPU as it takes for the GPUs to hold the others.
  Result<Trial> spill() const;
  Counts by_users_split(std::uint32_t on_cpu) const;

  const PlanRequest* request_;
  const Inventory* inventory_;
  Goal goal_;
  std::vector<std::uint32_t> gpus_;
  std::vector<std::uint64_t> item_bytes_;  // Without what a device needs once.
};

}  // namespace yoke::planner
