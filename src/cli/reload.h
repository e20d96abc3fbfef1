// `yoke reload`: a running server takes over what changed in its configuration. Main thread only.
#pragma once

#include <string>

#include <boost/json/value.hpp>

#include "base/result.h"
#include "cli/server_client.h"

namespace yoke::cli {

struct ReloadOptions {
  ConnectOptions connect;
  bool json = false;
};

// If the configuration has mistakes, all of them are the error, and nothing has changed.
Result<void> reload(const ReloadOptions& options);

// The reply of POST /yoke/v1/reload, a line for each kind of change. kInvalidJson.
Result<std::string> format_reload(const boost::json::value& reply);

}  // namespace yoke::cli
