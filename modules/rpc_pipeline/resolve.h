// A host's addresses, with a deadline: getaddrinfo() has none of its own. Blocks the caller.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <netdb.h>
#include <string>

namespace rpc_pipeline {

struct Resolved {
  std::shared_ptr<const addrinfo> addresses;  ///< A list; null: `error`.
  std::string error;
};

/// What `lookup` finds, or an error when the deadline has passed first: it then goes on in a thread
/// of its own, and what it finds is dropped. So it may use nothing that doesn't belong to it.
Resolved within(std::chrono::steady_clock::time_point deadline, std::function<Resolved()> lookup);

/// `host`: a name or a numeric address, which needs no lookup. For stream sockets.
Resolved resolve(const std::string& host, const std::string& port,
                 std::chrono::steady_clock::time_point deadline);

}  // namespace rpc_pipeline
