// Going on with a streamed answer on another engine, so that the client sees one unbroken stream.
// docs/failover.md says what can be continued and what can't. Pure; one thread at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "gateway/engine_request.h"
#include "gateway/sent_reply.h"

namespace yoke::gateway {

// Yoke can end the stream by itself: only its last event was missing.
bool lacks_only_its_end(const EngineRequest& request, const SentReply& sent);

// The request that makes an engine go on behind what was sent. `sent_tokens` is how many tokens
// that is; they count against max_tokens. kCannotContinue with the reason.
Result<EngineRequest> continue_request(const EngineRequest& request, const SentReply& sent,
                                       std::int64_t sent_tokens);

// What is still to be told of the text that was sent: its JSON string without the escapes.
std::string sent_text(const SentReply& sent);

// Makes the events of the next engine those of the first one's answer: its id and time, its role
// told once, and a usage that counts all tokens.
class Seam {
 public:
  Seam(const SentReply& sent, std::int64_t sent_tokens);
  // Whole events in, whole events out.
  std::string join(std::string_view events) const;

 private:
  std::string join_event(std::string_view data) const;

  std::string id_;
  std::string created_;
  std::int64_t sent_tokens_;
};

}  // namespace yoke::gateway
