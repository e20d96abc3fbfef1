// The system calls that start a child: fork, set it up, exec. Used by ChildProcess only, on its
// thread, which must outlive the child.
#pragma once

#include <sys/types.h>

#include "base/result.h"
#include "base/unique_fd.h"
#include "supervisor/child_process.h"

namespace yoke::supervisor {

struct ForkedChild {
  pid_t pid = 0;
  UniqueFd pidfd;
  UniqueFd output;  // The read end of its stdout and stderr, non-blocking.
};

// Runs the spec's program with `mark`, NAME=VALUE, in its environment. Returns when the program has
// been loaded; kSpawnFailed if that failed, and then there is no child.
Result<ForkedChild> fork_exec(const ChildSpec& spec, const std::string& mark);

}  // namespace yoke::supervisor
