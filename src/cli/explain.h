// `yoke explain`: why a model runs as it does. Main thread only.
#pragma once

#include <string>

#include <boost/json/value.hpp>

#include "base/result.h"
#include "cli/server_client.h"
#include "cli/terminal.h"

namespace yoke::cli {

struct ExplainOptions {
  ConnectOptions connect;
  std::string model;
  bool json = false;
};

Result<void> explain(const ExplainOptions& options);

// The reply of GET /yoke/v1/explain for people, wrapped at the terminal's width. kInvalidJson.
Result<std::string> format_explanation(const boost::json::value& reply, const Terminal& terminal);

}  // namespace yoke::cli
