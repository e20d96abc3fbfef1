// Delivery: one answer on its way to one client, from however many engines it takes.
// Lives as long as the request; only on the connection's thread.
#pragma once

#include <string_view>

#include "base/result.h"
#include "gateway/metrics.h"
#include "gateway/sent_reply.h"
#include "http/server.h"
#include "io/task.h"

namespace yoke::gateway {

class Delivery {
 public:
  // The extra headers join the answer's.
  Delivery(http::Exchange& exchange, http::Headers extra_headers, Metrics& metrics)
      : exchange_(exchange), extra_headers_(std::move(extra_headers)), metrics_(metrics) {}
  Delivery(const Delivery&) = delete;
  Delivery& operator=(const Delivery&) = delete;

  const http::RequestHead& request() const { return exchange_.request(); }
  Metrics& metrics() { return metrics_; }

  // The client was sent a status, so that no other one can be given any more.
  bool begun() const { return exchange_.reply_begun(); }
  bool is_event_stream() const { return event_stream_; }
  // Of an event stream that was sent with send_events().
  const SentReply& sent() const { return sent_; }

  // A piece of the answer; before the first one the head, made of the engine's. Returns when the
  // client took it. kPeerClosed: it left, or took nothing for too long.
  io::Task<Result<void>> send(const http::ResponseHead& head, std::string_view piece);
  // The same for whole events of one answer, which are remembered.
  io::Task<Result<void>> send_events(const http::ResponseHead& head, std::string_view events);
  // The head if nothing else was sent, and the end.
  io::Task<Result<void>> end(const http::ResponseHead& head);
  // All of it at once.
  io::Task<Result<void>> send_whole(const http::ResponseHead& head, std::string body);

  // The answer can't go on: an event stream ends with an error event, anything else is cut.
  io::Task<void> end_with(Error error);

 private:
  io::Task<Result<void>> begin(const http::ResponseHead& head);
  http::ResponseHead client_head(const http::ResponseHead& head) const;

  http::Exchange& exchange_;
  http::Headers extra_headers_;
  Metrics& metrics_;
  SentReply sent_;
  bool event_stream_ = false;
};

// "text/event-stream", with or without parameters.
bool is_event_stream(const http::Headers& headers);

}  // namespace yoke::gateway
