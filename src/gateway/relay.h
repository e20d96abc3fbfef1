// Passing a request on to an engine and its answer back, piece by piece.
// Runs on the connection's thread.
#pragma once

#include <chrono>
#include <string>

#include "base/result.h"
#include "gateway/metrics.h"
#include "http/client.h"
#include "http/server.h"
#include "io/task.h"

namespace yoke::gateway {

struct RelayLimits {
  std::chrono::milliseconds first_byte;  // For the engine's first sign of an answer: prefill.
  std::chrono::milliseconds idle;        // Between two pieces of it.
};

struct RelayTarget {
  std::string model;  // For messages.
  http::Endpoint engine;
  RelayLimits limits;
};

// Sends `body` to the engine as the exchange's request and its answer to the client. The next piece
// is read from the engine only when the client took the last one. What goes wrong before the client
// was sent anything, the engine's own refusals too, is an error for the caller to answer; later, an
// event stream ends with an error event, and any other reply is cut. kPeerClosed: the client left,
// or took nothing for too long. When it leaves, cancel the task: dropping the connection tells the
// engine to stop. The extra headers join the answer's.
io::Task<Result<void>> relay(http::Exchange& exchange, RelayTarget target, std::string body,
                             http::Headers extra_headers, Metrics& metrics);

// Which headers pass: not those that concern one connection, or Yoke's own access rules.
http::Headers headers_for_engine(const http::Headers& from_client);
http::Headers headers_for_client(const http::Headers& from_engine);

}  // namespace yoke::gateway
