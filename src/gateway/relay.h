// One try to get an answer from an engine: puts the request to it and passes what it says on to the
// client, piece by piece. Runs on the connection's thread.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "base/result.h"
#include "gateway/continuation.h"
#include "gateway/delivery.h"
#include "gateway/engine_request.h"
#include "http/client.h"
#include "io/task.h"
#include "supervisor/route_table.h"

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
  std::string key;  // That the engine asks for; empty if it asks for none.
  std::shared_ptr<supervisor::InstanceLoad> load;  // Is told of progress; may be null.
  RelayLimits limits;
};

// Returns when the answer is complete, in the form that the client asked for. The next piece is
// read from the engine only when the client took the last one. Errors: kEngineFailed if the engine
// died or broke off; kEngineBroken; kTimeout; its own refusals; kPeerClosed if the client left or
// took nothing for too long. delivery.begun() tells whether the client was sent something before.
// When it leaves, cancel the task: dropping the connection tells the engine to stop. `seam`, if
// any, joins the events to what other engines said before, and outlives the call.
io::Task<Result<void>> relay(Delivery& delivery, RelayTarget target, EngineRequest request,
                             const Seam* seam = nullptr);

}  // namespace yoke::gateway
