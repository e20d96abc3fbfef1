// RpcWatch: what an engine with RPC servers says about them, and which client for them it took.
// Owned by an Instance, one for each of its engine's processes; on the control loop's thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>

#include "config/load_options.h"

namespace yoke::supervisor {

class RpcWatch {
 public:
  // `asked`: the client that the engine was started for.
  RpcWatch(std::string model, config::RpcClient asked) : model_(std::move(model)), asked_(asked) {}

  // A line of the engine's log. True if it says that the engine lives on without one of its
  // workers.
  bool see(std::string_view line);

  // Looks at what the process has mapped, once it is ready: llama-server does not log its modules
  // unless it is asked to.
  void look_at(pid_t pid);

  // None while nobody knows.
  std::optional<config::RpcClient> client() const { return client_; }
  // Why that is not the one it was started for; empty if it is.
  const std::string& why_other() const { return why_other_; }

 private:
  void found(config::RpcClient client);
  // Once, as long as the module is missing.
  void fall_back(std::string why);

  std::string model_;
  config::RpcClient asked_;
  std::optional<config::RpcClient> client_;
  std::string why_other_;
};

}  // namespace yoke::supervisor
