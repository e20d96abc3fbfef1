// StreamStart: takes the engine's progress events out of the beginning of a stream.
// Pure; one thread at a time.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace yoke::gateway {

// The data of an event that only reports how much of the prompt was read.
bool is_progress_event(std::string_view data);

class StreamStart {
 public:
  // What of the piece may go on to the client; valid until the next call. Empty while only progress
  // is reported. Comments (pings) pass and do not end the start.
  std::string_view feed(std::string_view piece);

  // True when an event that is no progress was there: from now on nothing needs to be looked at.
  bool over() const { return over_; }

  // The data of that event, if it is an error; it is not part of what feed() returned.
  const std::optional<std::string>& error() const { return error_; }

  // What has come of an event whose end is missing.
  std::string_view rest() const { return buffer_; }

 private:
  std::string buffer_;
  std::string out_;
  bool over_ = false;
  std::optional<std::string> error_;
};

}  // namespace yoke::gateway
