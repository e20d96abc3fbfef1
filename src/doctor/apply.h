// Carrying out a FixPlan, and taking it back. Blocks; one thread at a time.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <unistd.h>
#include <vector>

#include "base/result.h"
#include "doctor/fix_plan.h"

namespace yoke::doctor {

inline constexpr ErrorCode kDoctorNeedsRoot{"doctor_needs_root"};
inline constexpr ErrorCode kDoctorFileChanged{"doctor_file_changed"};
inline constexpr ErrorCode kDoctorCommandFailed{"doctor_command_failed"};

struct ApplyOptions {
  std::filesystem::path root = "/";
  // What the user is told; ends with a line feed.
  std::function<void(std::string_view)> print;
  // Whether to go on. An error ends it with nothing changed.
  std::function<Result<bool>(std::string_view question)> confirm;
  // Runs one command. Without it commands are only named: they would change this machine, not the
  // copy of another's files that `root` is.
  std::function<Result<void>(const Command&)> run{};
  // Overwrite what somebody else changed since; their version is kept in /var/lib/yoke/doctor/kept.
  bool force = false;
  uid_t user = ::geteuid();  // Only root may change this machine's files.
  // Called before each file is written or removed. For tests, which end the process there.
  std::function<void(std::string_view path)> before_change{};
};

enum class Outcome { kDone, kNothingToDo, kDeclined };

// Shows the differences, asks, and makes the changes; what was there before can be brought back
// with undo() from the moment of the first change on. kDoctorNeedsRoot, kDoctorFileChanged, kIo;
// kDoctorCommandFailed once all files are written.
Result<Outcome> apply(const FixPlan& plan, const ApplyOptions& options);

// Brings back every file as it was before the first apply(), also after a crash in the middle.
Result<Outcome> undo(const Distribution& distribution, const ApplyOptions& options);

}  // namespace yoke::doctor
