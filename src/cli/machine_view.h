// A machine described for people. Pure; any thread.
#pragma once

#include <string>

#include "cli/terminal.h"
#include "hardware/machine.h"

namespace yoke::cli {

// What `yoke detect` prints: a block per device, processor and system, what each detector said,
// where they disagree, and notes. Wrapped at the terminal's width.
std::string format_machine(const hardware::Machine& machine, const Terminal& terminal);

}  // namespace yoke::cli
