// Passing a request on to an engine and its answer back, piece by piece.
// Runs on the connection's thread.
#pragma once

#include <chrono>
#include <string>

#include "base/result.h"
#include "gateway/engine_request.h"
#include "gateway/metrics.h"
#include "http/client.h"
#include "http/server.h"
#include "io/task.h"

namespace yoke::gateway {

struct RelayLimits {
  std::chrono::milliseconds first_byte;  // For the first piece of an answer: prefill.
  std::chrono::milliseconds idle;        // Between two pieces of it.
  // A client whose stream has nothing to say yet gets a comment this often, so that proxies and
  // clients do not take it for dead.
  std::chrono::milliseconds ping{15'000};
};

struct RelayTarget {
  std::string model;  // For messages.
  http::Endpoint engine;
  RelayLimits limits;
};

// Puts the request to the engine and passes its answer to the client, in the form that the client
// asked for. The next piece is read from the engine only when the client took the last one. What
// goes wrong before the client was sent anything, the engine's own refusals too, is an error for
// the caller to answer; later, an event stream ends with an error event, and any other reply is
// cut. kPeerClosed: the client left, or took nothing for too long. When it leaves, cancel the task:
// dropping the connection tells the engine to stop. The extra headers join the answer's.
io::Task<Result<void>> relay(http::Exchange& exchange, RelayTarget target, EngineRequest request,
                             http::Headers extra_headers, Metrics& metrics);

}  // namespace yoke::gateway
