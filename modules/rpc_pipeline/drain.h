// Takes leave of workers after a loss. Blocks the caller.
#pragma once

#include <chrono>
#include <functional>
#include <vector>

namespace rpc_pipeline {

/// Ends what is sent on each of the sockets, reads and drops what still comes, and closes each when
/// its worker has closed it, all of them after `timeout` or as soon as `stop` says so. A worker
/// that still has answers to give when its client is gone is ended by a signal (SIGPIPE), with all
/// that it holds.
void drain(std::vector<int> sockets, std::chrono::milliseconds timeout,
           const std::function<bool()>& stop);

}  // namespace rpc_pipeline
