// Running one of the system's own tools. Blocks; any thread.
#pragma once

#include <chrono>

#include "base/result.h"
#include "doctor/distribution.h"

namespace yoke::doctor {

// The command's output goes where this program's goes, it has no input. It is ended when `limit` is
// over. kIo if it can't be started or does not end with 0, kTimeout.
Result<void> run_command(const Command& command,
                         std::chrono::milliseconds limit = std::chrono::minutes(15));

}  // namespace yoke::doctor
