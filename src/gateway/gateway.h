// Gateway: the HTTP front. Routes requests to models by name and relays the answers.
// Owned by main; start and stop from its thread, everything else runs on the context pool.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/config.h"
#include "io/context_pool.h"
#include "io/task.h"
#include "supervisor/control_loop.h"

namespace yoke::gateway {

// What came of reading the configuration again.
struct ReloadReport {
  supervisor::Reload models;
  std::vector<std::string> needs_restart;  // Settings that changed, but only a restart changes.
};

// What the gateway is asked for and can't do itself. Called on its threads; may be empty.
struct GatewayHooks {
  // Reads the configuration again. When it fails, nothing has changed.
  std::function<io::Task<Result<ReloadReport>>()> reload;
};

class Gateway {
 public:
  // Listens. The pool and the control loop must outlive the gateway. kAddressInUse,
  // kInvalidArgument, kApiKeyRequired.
  static Result<std::unique_ptr<Gateway>> start(io::ContextPool& pool,
                                                supervisor::ControlLoop& control,
                                                const config::ServerConfig& config,
                                                GatewayHooks hooks = {});
  ~Gateway();

  std::uint16_t port() const;

  // Takes over the key, the allowed origins, the largest request and the timeouts, for requests
  // that come from now on. The rest stays as it was; the key too, if other machines can reach this
  // server and there would be none. Any thread.
  void reconfigure(const config::ServerConfig& config);

  // Takes no more requests, gives running ones `grace` to end, then cuts them. Blocks.
  void stop(std::chrono::milliseconds grace);

 private:
  struct Impl;
  explicit Gateway(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace yoke::gateway
