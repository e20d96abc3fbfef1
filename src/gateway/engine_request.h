// How a client's request is put to the engine. Pure; any thread.
//
// llama-server notices a client that left only when it writes to it. A stream with progress events
// makes it write after every batch of the prompt, and not for the first time after all of it: so
// that is what it is asked for, whatever the client wants, and the relay turns the answer back.
// vLLM stops by itself and reports no progress: it gets what the client sent.
#pragma once

#include <string>

#include "engines/install.h"
#include "gateway/metrics.h"
#include "gateway/request_fields.h"

namespace yoke::gateway {

// What the relay makes of the engine's answer.
enum class ReplyForm {
  kAsIs,    // Passed on unchanged.
  kStream,  // Passed on without the progress events.
  kWhole,   // Put together to one JSON document.
};

struct EngineRequest {
  std::string body;
  ReplyForm form = ReplyForm::kAsIs;
  RouteKind kind = RouteKind::kOther;
  engines::EngineKind engine = engines::EngineKind::kLlamaCpp;
};

// `body` is a JSON object (read_request_fields has seen it).
EngineRequest make_engine_request(RouteKind kind, engines::EngineKind engine,
                                  const RequestFields& fields, std::string body);

}  // namespace yoke::gateway
