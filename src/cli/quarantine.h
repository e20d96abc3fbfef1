// `yoke quarantine`: which backends are left out for a model because they failed. Main thread only.
#pragma once

#include <string>

#include <boost/json/value.hpp>

#include "base/json_fields.h"
#include "base/result.h"
#include "cli/server_client.h"
#include "cli/terminal.h"

namespace yoke::cli {

struct QuarantineOptions {
  ConnectOptions connect;
  // What to clear; empty: every model, every backend.
  std::string model;
  std::string backend;
  bool json = false;
};

Result<void> quarantine_list(const QuarantineOptions& options);
// kInvalidArgument for a backend that there can't be.
Result<void> quarantine_clear(const QuarantineOptions& options);

// The reply of GET /yoke/v1/quarantine as a table. kInvalidJson.
Result<std::string> format_quarantines(const boost::json::value& reply, const Terminal& terminal);
// The reply of DELETE. kInvalidJson.
Result<std::string> format_cleared(const boost::json::value& reply);

// "3 min 20 s": what is left of a quarantine as the server describes it.
std::string remaining_time(const JsonFields& quarantine);

}  // namespace yoke::cli
