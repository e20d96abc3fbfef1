// Getting an answer although engines die: a request that has sent the client nothing yet is put to
// the next engine as it was, a stream of text goes on there, and what can't go on ends with an
// honest error. Runs on the connection's thread.
#pragma once

#include <chrono>
#include <string>

#include "base/result.h"
#include "gateway/delivery.h"
#include "gateway/engine_request.h"
#include "gateway/relay.h"
#include "io/task.h"
#include "supervisor/control_loop.h"

namespace yoke::gateway {

struct FailoverLimits {
  // How long to wait for engines until one of them says something.
  std::chrono::milliseconds start;
  RelayLimits relay;
  // A request that killed so many engines is not put to another one.
  int engines = 3;
};

// Returns when the client has the whole answer, or was told in its stream why it has not. An error
// is for the caller to answer: nothing was sent yet. kPeerClosed: the client left. Cancel the task
// when it does.
io::Task<Result<void>> answer(Delivery& delivery, supervisor::ControlLoop& control,
                              std::string model, EngineRequest request, FailoverLimits limits);

}  // namespace yoke::gateway
