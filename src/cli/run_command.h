// `yoke run`: one answer, or a conversation. Main thread only.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cli/sampling.h"
#include "cli/server_client.h"

namespace yoke::cli {

struct RunOptions {
  ConnectOptions connect;
  std::string model;
  std::vector<std::string> prompt;  // Its words; "-" stands for standard input.
  std::string system;
  Sampling sampling;
  bool no_stats = false;
};

// Success only after a complete answer, or after a conversation that the user ended.
Result<void> run_command(const RunOptions& options);

}  // namespace yoke::cli
