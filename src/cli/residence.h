// `yoke load`, `unload`, `pin` and `unpin`: which models are in memory. Main thread only.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/value.hpp>

#include "base/result.h"
#include "cli/server_client.h"

namespace yoke::cli {

struct LoadCommandOptions {
  ConnectOptions connect;
  std::string model;
  bool no_wait = false;
  bool json = false;
};

struct UnloadOptions {
  ConnectOptions connect;
  std::vector<std::string> models;
  bool json = false;
};

struct PinOptions {
  ConnectOptions connect;
  std::string model;
  bool off = false;
  bool json = false;
};

// Shows on a terminal what is waited for. The reason if the model can't be loaded.
Result<void> load_model(const LoadCommandOptions& options);
// Ends at the first that there is not.
Result<void> unload_models(const UnloadOptions& options);
Result<void> pin_model(const PinOptions& options);

// What the replies say, as one line; kInvalidJson.
Result<std::string> format_loading(const boost::json::value& reply);
Result<std::string> format_unloaded(const boost::json::value& reply);
Result<std::string> format_pinned(const boost::json::value& reply, bool off);
// "Loading chat, 12 s: waits for big to finish". `instances`: the reply of GET /yoke/v1/instances;
// what it does not say is left out.
std::string loading_line(const boost::json::value& instances, std::string_view model,
                         std::chrono::milliseconds waited);

}  // namespace yoke::cli
