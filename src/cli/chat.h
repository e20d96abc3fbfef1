// `yoke run MODEL` on a terminal: a conversation until the user ends it. Main thread only.
#pragma once

#include "base/result.h"
#include "cli/chat_session.h"
#include "cli/interrupts.h"
#include "cli/server_client.h"

namespace yoke::cli {

// Errors that end the conversation; those of a single answer are shown and it goes on.
Result<void> chat(const ServerClient& client, Interrupts& interrupts, ChatSession session,
                  bool show_stats);

}  // namespace yoke::cli
