// Gateway: the HTTP front. Routes requests to models by name and relays the answers.
// Owned by main; start and stop from its thread, everything else runs on the context pool.
#pragma once

#include <chrono>
#include <memory>

#include "base/result.h"
#include "config/config.h"
#include "io/context_pool.h"
#include "supervisor/control_loop.h"

namespace yoke::gateway {

class Gateway {
 public:
  // Listens. The pool and the control loop must outlive the gateway. kAddressInUse,
  // kInvalidArgument, kApiKeyRequired.
  static Result<std::unique_ptr<Gateway>> start(io::ContextPool& pool,
                                                supervisor::ControlLoop& control,
                                                const config::ServerConfig& config);
  ~Gateway();

  std::uint16_t port() const;

  // Takes no more requests, gives running ones `grace` to end, then cuts them. Blocks.
  void stop(std::chrono::milliseconds grace);

 private:
  struct Impl;
  explicit Gateway(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace yoke::gateway
