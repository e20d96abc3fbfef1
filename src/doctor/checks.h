// All checks of the doctor. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "doctor/finding.h"
#include "doctor/state.h"
#include "hardware/machine.h"

namespace yoke::doctor {

struct CheckOptions {
  // Who is going to use the GPU, where it is not who runs this: behind sudo, the one who called it.
  std::optional<Account> account{};
  // How much memory the configured models want to lock; kUnlimited: any number.
  std::uint64_t lock_bytes = kUnlimited;
};

// Only checks that concern this machine's devices have a finding.
std::vector<Finding> check(const SystemState& state, const hardware::Machine& machine,
                           const CheckOptions& options);

bool blocks(const std::vector<Finding>& findings);

}  // namespace yoke::doctor
