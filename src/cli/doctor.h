// `yoke doctor`: what is set up wrongly for the hardware here, and setting it right. Main thread
// only.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cli/terminal.h"
#include "doctor/finding.h"

namespace yoke::cli {

// At least one check found that a device can't be used.
inline constexpr ErrorCode kDoctorFoundProblems{"doctor_found_problems"};

struct DoctorOptions {
  std::string root{};  // A copy of a machine's files; empty: this machine.
  bool json = false;
  bool report = false;  // Everything, for a bug report.
  bool fix = false;
  bool undo = false;
  bool yes = false;             // Don't ask before changing files.
  bool force = false;           // Overwrite what somebody else changed since.
  std::string gpu_memory{};     // With fix: what an APU's GPU may map, "120GiB".
  bool load_libraries = false;  // Those under `root` too.
};

// kUsage, kDoctorFoundProblems, and the errors of doctor/fix_plan.h and doctor/apply.h.
Result<void> doctor(const DoctorOptions& options);

// The table, and below it what is wrong with what to do about it.
std::string format_findings(const std::vector<yoke::doctor::Finding>& findings,
                            const Terminal& terminal);

}  // namespace yoke::cli
