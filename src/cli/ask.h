// One question and its answer: sends the conversation, shows what comes. Main thread only.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "cli/answer_reader.h"
#include "cli/answer_view.h"
#include "cli/chat_session.h"
#include "cli/server_client.h"

namespace yoke::cli {

// The model stopped, or the stream ended, before the answer was complete.
inline constexpr ErrorCode kAnswerCut{"answer_cut"};

struct Answer {
  std::string text;  // As far as it came.
  AnswerStats stats;
  bool begun = false;
  std::optional<Error> error;  // kCancelled after Ctrl-C.
};

Answer ask(const ServerClient& client, const ChatSession& session, AnswerView& view);

}  // namespace yoke::cli
