// What `yoke plan` and `yoke list` plan with: the hardware, and the options as `yoke serve` would
// decide them. Main thread only.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "config/config.h"
#include "config/load_options.h"
#include "hardware/machine.h"
#include "planner/inventory.h"

namespace yoke::cli {

struct PlanHardware {
  std::string name;
  std::string backend;
  std::optional<hardware::Machine> machine;  // For what is known about it.
  planner::Inventory inventory;
};

// This machine, with the backend that a model with these options would run on first.
// kInvalidArgument if none can be used.
Result<PlanHardware> this_hardware(const config::LoadOptions& options,
                                   const config::EnginesConfig& engines);

// The machines of a file. What config::load_machines reports.
Result<PlanHardware> described_hardware(const std::string& file,
                                        const config::LoadOptions& options);

// `options` with everything decided.
config::LoadOptions decided_options(const config::LoadOptions& options,
                                    const PlanHardware& hardware);

}  // namespace yoke::cli
