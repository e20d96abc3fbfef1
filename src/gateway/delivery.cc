#include "gateway/delivery.h"

#include "gateway/api_error.h"
#include "gateway/relay_headers.h"

namespace yoke::gateway {
namespace {

constexpr std::string_view kEventStream = "text/event-stream";

tl::unexpected<Error> client_left() { return fail(http::kPeerClosed, "The client left."); }

}  // namespace

bool is_event_stream(const http::Headers& headers) {
  const auto content_type = headers.get("Content-Type");
  return content_type && content_type->starts_with(kEventStream);
}

http::ResponseHead Delivery::client_head(const http::ResponseHead& head) const {
  http::ResponseHead result{head.status, headers_for_client(head.headers)};
  for (const http::Header& header : extra_headers_) result.headers.set(header.name, header.value);
  return result;
}

io::Task<Result<void>> Delivery::begin(const http::ResponseHead& head) {
  http::ResponseHead reply = client_head(head);
  event_stream_ = gateway::is_event_stream(reply.headers);
  if (event_stream_) {
    reply.headers.set("X-Accel-Buffering", "no");  // Or nginx in front would collect the stream.
    reply.headers.set("Cache-Control", "no-cache");
  }
  const auto begun = co_await exchange_.begin_reply(std::move(reply));
  if (!begun) co_return client_left();
  co_return Result<void>{};
}

io::Task<Result<void>> Delivery::send(const http::ResponseHead& head, std::string_view piece) {
  if (!begun()) {
    auto beginning = begin(head);
    YOKE_CO_CHECK(co_await std::move(beginning));
  }
  metrics_.count_chunk(piece.size());
  const auto written = co_await exchange_.write(piece);
  if (!written) co_return client_left();
  co_return Result<void>{};
}

io::Task<Result<void>> Delivery::send_events(const http::ResponseHead& head,
                                             std::string_view events) {
  sent_.record(events);
  return send(head, events);
}

io::Task<Result<void>> Delivery::end(const http::ResponseHead& head) {
  if (!begun()) {
    auto beginning = begin(head);
    YOKE_CO_CHECK(co_await std::move(beginning));
  }
  co_await exchange_.end_reply();
  co_return Result<void>{};
}

io::Task<Result<void>> Delivery::send_whole(const http::ResponseHead& head, std::string body) {
  http::ResponseHead reply = client_head(head);
  for (const char* name : {"X-Accel-Buffering", "Cache-Control"}) reply.headers.erase(name);
  reply.headers.set("Content-Type", "application/json; charset=utf-8");
  metrics_.count_chunk(body.size());
  const auto replied = co_await exchange_.reply(std::move(reply), std::move(body));
  if (!replied) co_return client_left();
  co_return Result<void>{};
}

io::Task<void> Delivery::end_with(Error error) {
  metrics_.count_cut_stream();
  if (!event_stream_) co_return;
  const std::string event = "data: " + error_body(status_of(error.code), error) + "\n\n";
  const auto written = co_await exchange_.write(event);
  if (written) co_await exchange_.end_reply();
}

}  // namespace yoke::gateway
