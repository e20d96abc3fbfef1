// What `yoke doctor --fix` is going to do, worked out before anything is touched. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "doctor/distribution.h"
#include "doctor/finding.h"
#include "doctor/state.h"
#include "hardware/machine.h"

namespace yoke::doctor {

inline constexpr ErrorCode kFixNotPossible{"fix_not_possible"};

struct FileChange {
  std::string path;
  std::optional<std::string> before;  // Nothing: the file is new.
  std::string after;
  mode_t mode = 0644;
};

struct FixPlan {
  std::vector<FileChange> changes;
  std::vector<Command> commands;    // Afterwards, in this order.
  std::vector<std::string> manual;  // What only a person can do, a sentence each.
  bool reboot = false;
  bool login = false;  // It takes effect with the next login.
};

struct FixOptions {
  std::optional<std::uint64_t> gpu_memory{};  // Bytes that an APU's GPU may map.
};

// kFixNotPossible where files can't mend the machine (a container, NixOS); kGpuMemoryRefused.
Result<FixPlan> plan_fixes(const std::vector<Finding>& findings, const SystemState& state,
                           const hardware::Machine& machine, const FixOptions& options);

// What makes changes to these files effective. `undone`: they are back at what they were.
std::vector<Command> commands_after(const std::vector<std::string>& paths,
                                    const Distribution& distribution, bool undone);

}  // namespace yoke::doctor
