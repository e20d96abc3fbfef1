// `yoke ps`: what runs. Main thread only.
#pragma once

#include "base/result.h"
#include "cli/server_client.h"
#include "cli/terminal.h"

namespace yoke::cli {

struct PsOptions {
  ConnectOptions connect;
  bool json = false;
};

Result<void> ps(const PsOptions& options);

// The reply of GET /yoke/v1/instances as a table. kInvalidJson.
Result<std::string> format_instances(const boost::json::value& reply, const Terminal& terminal);

}  // namespace yoke::cli
