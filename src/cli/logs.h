// `yoke logs`: what the engines wrote. Main thread only.
#pragma once

#include <string>

#include "base/result.h"
#include "cli/server_client.h"

namespace yoke::cli {

struct LogsOptions {
  ConnectOptions connect;
  std::string model;  // Empty: all of them.
  int tail = 200;     // So many of the newest lines.
  bool follow = false;
  bool json = false;  // One object per line.
};

Result<void> logs(const LogsOptions& options);

}  // namespace yoke::cli
