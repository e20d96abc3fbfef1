// Server-sent events: taking a stream apart. Pure; one thread at a time.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace yoke::http {

struct SseEvent {
  std::string event{};  // Empty stands for "message".
  std::string data{};   // Lines joined with '\n'.
};

// Feed it pieces as they come, cut anywhere; take events until there is none.
class SseParser {
 public:
  // An event longer than this many bytes is an error.
  explicit SseParser(std::size_t max_event_bytes = 8u << 20) : max_event_bytes_(max_event_bytes) {}

  // kInvalidArgument when an event has grown beyond the limit.
  Result<void> feed(std::string_view piece);
  // False when no whole event is there.
  bool next(SseEvent& event);

 private:
  bool take_line(std::string_view& line);

  std::size_t max_event_bytes_;
  std::string buffer_;
  std::size_t parsed_ = 0;  // Bytes of buffer_ that are done with.
  SseEvent pending_;
  bool has_data_ = false;
};

}  // namespace yoke::http
