// Serves one completion or embedding: waits for a slot, computes nothing at the scripted speed, and
// fails where the script says so. Runs on the connection's thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "fake_engine/completion_request.h"
#include "fake_engine/replies.h"
#include "fake_engine/reply_writer.h"

namespace fake_engine {

class Completion {
 public:
  Completion(Engine& engine, ReplyWriter& writer, CompletionRequest request);

  // Answers the request and counts how it ended.
  void run();

 private:
  enum class End { kCompleted, kClientGone, kStopping, kFailed };

  End serve();
  void begin_prompt(size_t slot);
  End serve_in_slot(size_t slot);
  End generate(size_t slot);
  End finish();

  // The failure that is scripted for the moment after `sent` tokens, if there is one: carries it
  // out and returns how that ended the request.
  std::optional<End> strike_after(int64_t sent);
  End send_scripted_error();
  End send_error(int status, const std::string& message);
  End half_close();

  // Sleeps; a stream that has begun sends pings meanwhile.
  Wait pause_until(int64_t deadline_ns);
  Wait say(std::string_view text);
  Wait begin_stream_once();
  Wait report_progress(int64_t processed);
  std::string full_body() const;
  // A line as llama-server's `function` writes it about a slot.
  void log(std::string_view function, std::string_view what) const;

  static End end_of(Wait outcome);

  Engine& engine_;
  ReplyWriter& writer_;
  const CompletionRequest request_;
  const Behaviour& behaviour_;
  ReplyFacts facts_;
  EventWriter events_;
  int64_t task_ = -1;
  int64_t slot_ = -1;
  bool role_said_ = false;
  std::string said_;  // Without what a chat repeats first.
  std::string text_;  // Of a reply that does not stream.
};

}  // namespace fake_engine
