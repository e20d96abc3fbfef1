// EventStream: the engine's stream of events on its way to a client. Hands on whole events only, so
// that a client never holds half of one when an engine dies, and takes the progress events out of
// the beginning. Pure; one thread at a time.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace yoke::gateway {

// The data of an event that only reports how much of the prompt was read.
bool is_progress_event(std::string_view data);
// The data of an event that reports an error, of llama-server or vLLM.
bool is_error_event(std::string_view data);
// Where the first such event begins in a piece of a stream; npos if there is none.
std::size_t find_error_event(std::string_view piece);

class EventStream {
 public:
  // The whole events that have come and may go on to the client; valid until the next call. Empty
  // while only progress is reported. Comments (pings) pass.
  std::string_view feed(std::string_view piece);

  // True once an event that is neither progress nor a comment was there: the answer has begun.
  bool begun() const { return begun_; }

  // The data of an error event. Nothing behind it is handed on, nor is the event itself.
  const std::optional<std::string>& error() const { return error_; }

 private:
  std::size_t take_start(std::string_view events);

  std::string buffer_;  // An event whose end has not come yet.
  std::string out_;
  bool begun_ = false;
  std::optional<std::string> error_;
};

}  // namespace yoke::gateway
