// Answers one request, whatever it asks for. Runs on the connection's thread.
#pragma once

#include "fake_engine/engine.h"
#include "fake_engine/http.h"
#include "fake_engine/reply_writer.h"

namespace fake_engine {

void answer(Engine& engine, const HttpRequest& request, ReplyWriter& writer);

}  // namespace fake_engine
