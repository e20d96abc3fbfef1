// `yoke ps`: which models are in memory, and what comes next. Main thread only.
#pragma once

#include "base/json_fields.h"
#include "base/result.h"
#include "cli/server_client.h"
#include "cli/terminal.h"

namespace yoke::cli {

inline constexpr std::string_view kInstancesTarget = "/yoke/v1/instances";

struct PsOptions {
  ConnectOptions connect;
  bool json = false;
  bool wide = false;  // Also what is of interest when something goes wrong.
};

Result<void> ps(const PsOptions& options);

// The reply of GET /yoke/v1/instances as a table, and a line for each memory. kInvalidJson.
Result<std::string> format_instances(const boost::json::value& reply, const Terminal& terminal,
                                     bool wide = false);

}  // namespace yoke::cli
