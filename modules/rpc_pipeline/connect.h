// Opens a worker's connection. Blocks the caller, up to a deadline.
#pragma once

#include <chrono>
#include <string>

namespace rpc_pipeline {

struct Connected {
  int fd = -1;  ///< A connected, greeted, non-blocking socket; the caller closes it. -1: `error`.
  std::string
      error;  ///< Why not, as it is to be read after "cannot use worker NAME (HOST:PORT): ".
};

/// Connects to "HOST:PORT" (or "[IPV6]:PORT") and shakes hands, within `timeout` in all. A worker
/// that serves another client accepts and stays silent: that is a timeout here.
Connected connect_worker(const std::string& endpoint, std::chrono::milliseconds timeout);

}  // namespace rpc_pipeline
