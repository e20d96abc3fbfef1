// POST /slots/ID?action=save|restore|erase. Runs on the connection's thread.
#pragma once

#include "fake_engine/http.h"
#include "fake_engine/reply_writer.h"

namespace fake_engine {

class Engine;

bool is_slot_action(const HttpRequest& request);
void answer_slot_action(Engine& engine, const HttpRequest& request, ReplyWriter& writer);

}  // namespace fake_engine
