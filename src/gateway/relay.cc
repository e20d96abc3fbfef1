#include "gateway/relay.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "base/log.h"
#include "gateway/api_error.h"
#include "gateway/engine_error.h"
#include "gateway/relay_headers.h"
#include "gateway/reply_assembly.h"
#include "gateway/stream_start.h"
#include "http/sse.h"

namespace yoke::gateway {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::string_view kEventStream = "text/event-stream";
constexpr std::string_view kPing = ":\n\n";
constexpr int kStreamedErrorStatus = 500;  // Of an error event that tells none of its own.

// One request on its way. The relay's coroutines share it; it lives in relay()'s frame.
struct Passage {
  http::Exchange& exchange;
  const RelayTarget& target;
  const http::Headers& extra_headers;
  Metrics& metrics;
  http::Response& response;
  Clock::time_point start;

  // The engine may report progress for as long as it likes, but the limit is one for all of it.
  void wait_for_first_byte() const {
    const auto left =
        std::chrono::ceil<milliseconds>(start + target.limits.first_byte - Clock::now());
    response.set_idle_timeout(std::max(left, milliseconds(1)));
  }
  void first_byte_is_here() const {
    response.set_idle_timeout(target.limits.idle);
    metrics.count_first_byte(Clock::now() - start);
  }
};

tl::unexpected<Error> client_left() { return fail(http::kPeerClosed, "The client left."); }

bool is_event_stream(const http::Headers& headers) {
  const auto content_type = headers.get("Content-Type");
  return content_type && content_type->starts_with(kEventStream);
}

int status_in(std::string_view error_event) {
  constexpr std::string_view kCode = "\"code\":";
  const std::size_t at = error_event.find(kCode);
  int status = 0;
  if (at != std::string_view::npos) {
    std::from_chars(error_event.data() + at + kCode.size(), error_event.data() + error_event.size(),
                    status);
  }
  return status >= 400 && status < 600 ? status : kStreamedErrorStatus;
}

// The engine's answer with a status of 400 or more, as an error of ours.
io::Task<Error> read_refusal(http::Response& response, std::string model) {
  constexpr std::size_t kMaxRefusal = 64u << 10;
  auto reading = response.read_all(kMaxRefusal);
  const auto body = co_await std::move(reading);
  if (!body) co_return engine_trouble(model, body.error());
  co_return engine_refusal(model, response.head().status, *body);
}

// The engine failed in the middle of an answer. True if the client could be told in the stream.
io::Task<bool> end_with_error_event(http::Exchange& exchange, Error error) {
  const std::string event = "data: " + error_body(status_of(error.code), error) + "\n\n";
  const auto written = co_await exchange.write(event);
  if (!written) co_return false;
  const auto ended = co_await exchange.end_reply();
  co_return ended.has_value();
}

io::Task<Result<void>> begin(const Passage& passage) {
  const http::ResponseHead& engines = passage.response.head();
  http::ResponseHead head{engines.status, headers_for_client(engines.headers)};
  if (is_event_stream(head.headers)) {
    head.headers.set("X-Accel-Buffering", "no");  // Or nginx in front would collect the stream.
    head.headers.set("Cache-Control", "no-cache");
  }
  for (const http::Header& header : passage.extra_headers) {
    head.headers.set(header.name, header.value);
  }
  const auto begun = co_await passage.exchange.begin_reply(std::move(head));
  if (!begun) co_return client_left();
  co_return Result<void>{};
}

// The engine's answer is over before its end: the client is told in the way that is left.
io::Task<Result<void>> cut_short(const Passage& passage, Error error) {
  if (error.code == kCancelled) co_return Result<void>{};
  if (!passage.exchange.reply_begun()) co_return fail(std::move(error));
  log::warning("Model {}: an answer was cut: {}", passage.target.model, error.text());
  passage.metrics.count_cut_stream();
  if (is_event_stream(passage.response.head().headers)) {
    co_await end_with_error_event(passage.exchange, std::move(error));
  }
  co_return Result<void>{};
}

io::Task<Result<void>> send_on(const Passage& passage, std::string_view piece) {
  if (!passage.exchange.reply_begun()) {
    auto beginning = begin(passage);
    YOKE_CO_CHECK(co_await std::move(beginning));
  }
  const auto written = co_await passage.exchange.write(piece);
  if (!written) co_return client_left();
  co_return Result<void>{};
}

// As the pieces come; without the progress events before the first token, if they were our wish.
io::Task<Result<void>> pass_pieces(const Passage& passage, bool drop_progress) {
  StreamStart beginning;
  bool waiting = true;  // For the first piece that is an answer.
  auto last_sent = passage.start;
  while (true) {
    if (waiting) passage.wait_for_first_byte();
    const auto read = co_await passage.response.read();
    if (!read) {
      auto ending = cut_short(passage, engine_trouble(passage.target.model, read.error()));
      co_return co_await std::move(ending);
    }
    if (read->empty()) break;
    const std::string_view piece = drop_progress ? beginning.feed(*read) : *read;
    if (waiting && (!drop_progress || beginning.over())) {
      waiting = false;
      passage.first_byte_is_here();
    }
    if (const auto& error = beginning.error(); error && !waiting) {
      auto ending =
          cut_short(passage, engine_refusal(passage.target.model, status_in(*error), *error));
      co_return co_await std::move(ending);
    }
    if (piece.empty() && Clock::now() - last_sent < passage.target.limits.ping) continue;
    auto sending = send_on(passage, piece.empty() ? kPing : piece);
    YOKE_CO_CHECK(co_await std::move(sending));
    last_sent = Clock::now();
    passage.metrics.count_chunk(piece.size());
  }
  if (!beginning.rest().empty()) {
    auto sending = send_on(passage, beginning.rest());
    YOKE_CO_CHECK(co_await std::move(sending));
  }
  if (!passage.exchange.reply_begun()) {
    auto beginning_reply = begin(passage);
    YOKE_CO_CHECK(co_await std::move(beginning_reply));
  }
  co_await passage.exchange.end_reply();
  co_return Result<void>{};
}

// The whole stream as one JSON document. An engine that fails on the way leaves nothing half done.
io::Task<Result<void>> pass_whole(const Passage& passage) {
  constexpr std::size_t kMaxReply = 256u << 20;
  ReplyAssembly reply;
  http::SseParser parser;
  bool waiting = true;
  bool complete = false;
  std::size_t size = 0;
  while (true) {
    if (waiting) passage.wait_for_first_byte();
    const auto read = co_await passage.response.read();
    if (!read) co_return fail(engine_trouble(passage.target.model, read.error()));
    if (read->empty()) break;
    size += read->size();
    if (size > kMaxReply) co_return fail(kEngineError, "The engine's answer is too long.");
    YOKE_CO_CHECK(parser.feed(*read));
    http::SseEvent event;
    while (parser.next(event)) {
      if (is_progress_event(event.data)) continue;
      if (waiting) passage.first_byte_is_here();
      waiting = false;
      if (event.data.starts_with(R"({"error":)")) {
        co_return fail(engine_refusal(passage.target.model, status_in(event.data), event.data));
      }
      complete = complete || event.data == kStreamEnd;
      if (complete) continue;
      YOKE_CO_CHECK(reply.add(event.data));
    }
  }
  if (!complete) {
    const Error error{http::kPeerClosed, "The stream has no end."};
    co_return fail(engine_trouble(passage.target.model, error));
  }
  std::string body = reply.text();
  passage.metrics.count_chunk(body.size());
  http::ResponseHead head{200, headers_for_client(passage.response.head().headers)};
  for (const std::string_view name : {"X-Accel-Buffering", "Cache-Control"})
    head.headers.erase(name);
  head.headers.set("Content-Type", "application/json; charset=utf-8");
  for (const http::Header& header : passage.extra_headers) {
    head.headers.set(header.name, header.value);
  }
  const auto replied = co_await passage.exchange.reply(std::move(head), std::move(body));
  if (!replied) co_return client_left();
  co_return Result<void>{};
}

}  // namespace

io::Task<Result<void>> relay(http::Exchange& exchange, RelayTarget target, EngineRequest request,
                             http::Headers extra_headers, Metrics& metrics) {
  const auto start = Clock::now();
  const http::RequestHead& head = exchange.request();
  http::ClientRequest to_engine{target.engine, {head.method, head.target}, std::move(request.body)};
  to_engine.head.headers = headers_for_engine(head.headers);
  http::ClientTimeouts timeouts;
  timeouts.head = timeouts.idle = target.limits.first_byte;  // The head may precede the prefill.
  auto sending = http::send(std::move(to_engine), timeouts);
  const auto sent = co_await std::move(sending);
  if (!sent) co_return fail(engine_trouble(target.model, sent.error()));
  http::Response& response = **sent;
  if (response.head().status >= 400) {
    auto reading = read_refusal(response, target.model);
    Error refusal = co_await std::move(reading);
    co_return fail(std::move(refusal));
  }
  const Passage passage{exchange, target, extra_headers, metrics, response, start};
  const bool streams = is_event_stream(response.head().headers);
  auto passing = streams && request.form == ReplyForm::kWhole
                     ? pass_whole(passage)
                     : pass_pieces(passage, streams && request.form == ReplyForm::kStream);
  co_return co_await std::move(passing);
}

}  // namespace yoke::gateway
