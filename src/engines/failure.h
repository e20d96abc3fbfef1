// Why an engine died: from its exit status and its last log lines to a class that decides what
// happens next, and a sentence for the user. Pure; any thread.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/exit_status.h"

namespace yoke::engines {

enum class FailureClass {
  kBadModel,      // The file can't be loaded, by no backend.
  kBadArguments,  // The engine refused its command line.
  kPortTaken,
  kOutOfMemory,  // Of the GPU or the host; also killed by the kernel for it.
  kDeviceLost,
  kGpuFault,
  kGpuHang,
  kWrongOutput,
  kCrash,
  kLoadFailed,
  kStartTimeout,
  kWorkerLost,  // A machine that computes a part of the model.
};

// Stable, for logs, metrics and API replies: "bad_model", "out_of_memory".
std::string_view name_of(FailureClass cls);

// What happened and what to do, where nothing more is known than the class.
std::string_view summary_of(FailureClass cls);

struct Failure {
  FailureClass cls = FailureClass::kCrash;
  std::string summary;        // What happened and what the user can do.
  std::string evidence_line;  // The log line that says so, without its time stamp; may be empty.
};

// What the process was doing when it ended.
enum class Phase { kStarting, kReady, kStopping };

// `last_log_lines`: oldest first, stdout and stderr together.
Failure classify_failure(const ExitStatus& status, std::span<const std::string> last_log_lines,
                         Phase phase);

// Whether an error that a living engine answers with means that it can't compute any more (a lost
// device, a dead engine core), and not that this one request was at fault.
bool says_engine_is_broken(std::string_view message);

}  // namespace yoke::engines
