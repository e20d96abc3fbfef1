#include "gateway/relay.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "gateway/api_error.h"
#include "gateway/engine_error.h"
#include "gateway/event_stream.h"
#include "gateway/relay_headers.h"
#include "gateway/reply_assembly.h"
#include "http/sse.h"

namespace yoke::gateway {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::string_view kPing = ":\n\n";

// While it lives, a request waits for its engine to say something, and not for its client. Engines
// report the progress of what they were asked for as a stream, so silence means that they hang.
class EngineWait {
 public:
  explicit EngineWait(supervisor::InstanceLoad* load) : load_(load) {
    if (load_ != nullptr) load_->waiting.fetch_add(1, std::memory_order_relaxed);
  }
  ~EngineWait() {
    if (load_ == nullptr) return;
    load_->progress.fetch_add(1, std::memory_order_relaxed);
    load_->waiting.fetch_sub(1, std::memory_order_relaxed);
  }
  EngineWait(const EngineWait&) = delete;
  EngineWait& operator=(const EngineWait&) = delete;

 private:
  supervisor::InstanceLoad* load_;
};

// One request on its way. The relay's coroutines share it; it lives in relay()'s frame.
struct Passage {
  Delivery& delivery;
  const RelayTarget& target;
  http::Response& response;
  const Seam* seam;
  Clock::time_point start;

  // The engine may report progress for as long as it likes, but the limit is one for all of it.
  void wait_for_first_byte() const {
    const auto left =
        std::chrono::ceil<milliseconds>(start + target.limits.first_byte - Clock::now());
    response.set_idle_timeout(std::max(left, milliseconds(1)));
  }
  void first_byte_is_here() const {
    response.set_idle_timeout(target.limits.idle);
    delivery.metrics().count_first_byte(Clock::now() - start);
  }
  tl::unexpected<Error> trouble(const Error& error) const {
    return fail(engine_trouble(target.model, error));
  }
  tl::unexpected<Error> broken_off() const {
    return trouble({http::kPeerClosed, "The stream has no end."});
  }
};

tl::unexpected<Error> refusal_in(const Passage& passage, std::string_view error_event) {
  return fail(
      engine_refusal(passage.target.model, status_in_error_event(error_event), error_event));
}

// The engine's answer with a status of 400 or more, as an error of ours.
io::Task<Error> read_refusal(http::Response& response, std::string model) {
  constexpr std::size_t kMaxRefusal = 64u << 10;
  auto reading = response.read_all(kMaxRefusal);
  const auto body = co_await std::move(reading);
  if (!body) co_return engine_trouble(model, body.error());
  co_return engine_refusal(model, response.head().status, *body);
}

// Of the event that begins at `at`.
std::string_view first_data(std::string_view piece, std::size_t at) {
  constexpr std::string_view kData = "data: ";
  const std::string_view data = piece.substr(at + kData.size());
  return data.substr(0, data.find("\n\n"));
}

// As the pieces come, whatever they are; but an event that reports an error ends them.
io::Task<Result<void>> pass_pieces(const Passage& passage) {
  const http::ResponseHead& head = passage.response.head();
  const bool events = is_event_stream(head.headers);
  bool waiting = true;  // For the first piece.
  passage.wait_for_first_byte();
  while (true) {
    const auto read = co_await passage.response.read();
    if (!read) co_return passage.trouble(read.error());
    if (read->empty()) break;
    if (waiting) passage.first_byte_is_here();
    waiting = false;
    // Engines send each event as a piece of its own.
    const std::size_t error = events ? find_error_event(*read) : std::string_view::npos;
    if (error != 0) {
      auto sending = passage.delivery.send(head, read->substr(0, error));
      YOKE_CO_CHECK(co_await std::move(sending));
    }
    if (error != std::string_view::npos) co_return refusal_in(passage, first_data(*read, error));
  }
  auto ending = passage.delivery.end(head);
  co_return co_await std::move(ending);
}

// Whole events as they come, without the progress before the first token.
io::Task<Result<void>> pass_events(const Passage& passage) {
  const http::ResponseHead& head = passage.response.head();
  EventStream stream;
  bool waiting = true;  // For the answer to begin.
  auto last_sent = passage.start;
  while (true) {
    if (waiting) passage.wait_for_first_byte();
    std::optional<EngineWait> wait(passage.target.load.get());
    const auto read = co_await passage.response.read();
    wait.reset();
    // Of an engine that dies behind its last event nothing is missing.
    if (!read && !passage.delivery.sent().complete()) co_return passage.trouble(read.error());
    if (!read || read->empty()) break;
    std::string_view events = stream.feed(*read);
    if (waiting && stream.begun()) {
      waiting = false;
      passage.first_byte_is_here();
    }
    std::string joined;
    if (passage.seam != nullptr && !events.empty()) {
      joined = passage.seam->join(events);
      events = joined;
    }
    const bool time_to_ping = Clock::now() - last_sent >= passage.target.limits.ping;
    if (!events.empty() || (waiting && time_to_ping)) {
      auto sending = passage.delivery.send_events(head, events.empty() ? kPing : events);
      YOKE_CO_CHECK(co_await std::move(sending));
      last_sent = Clock::now();
    }
    if (stream.error()) co_return refusal_in(passage, *stream.error());
  }
  if (!passage.delivery.sent().complete()) co_return passage.broken_off();
  auto ending = passage.delivery.end(head);
  co_return co_await std::move(ending);
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
    std::optional<EngineWait> wait(passage.target.load.get());
    const auto read = co_await passage.response.read();
    wait.reset();
    if (!read && !complete) co_return passage.trouble(read.error());
    if (!read || read->empty()) break;
    size += read->size();
    if (size > kMaxReply) co_return fail(kEngineError, "The engine's answer is too long.");
    YOKE_CO_CHECK(parser.feed(*read));
    http::SseEvent event;
    while (parser.next(event)) {
      if (is_progress_event(event.data)) continue;
      if (waiting) passage.first_byte_is_here();
      waiting = false;
      if (is_error_event(event.data)) co_return refusal_in(passage, event.data);
      complete = complete || event.data == kStreamEnd;
      if (!complete) YOKE_CO_CHECK(reply.add(event.data));
    }
  }
  if (!complete) co_return passage.broken_off();
  auto sending = passage.delivery.send_whole(passage.response.head(), reply.text());
  co_return co_await std::move(sending);
}

}  // namespace

io::Task<Result<void>> relay(Delivery& delivery, RelayTarget target, EngineRequest request,
                             const Seam* seam) {
  const auto start = Clock::now();
  const http::RequestHead& head = delivery.request();
  http::ClientRequest to_engine{target.engine, {head.method, head.target}, std::move(request.body)};
  to_engine.head.headers = headers_for_engine(head.headers);
  if (!target.key.empty()) to_engine.head.headers.set("Authorization", "Bearer " + target.key);
  http::ClientTimeouts timeouts;
  timeouts.head = timeouts.idle = target.limits.first_byte;  // The head may precede the prefill.
  std::optional<EngineWait> wait(request.form == ReplyForm::kAsIs ? nullptr : target.load.get());
  auto sending = http::send(std::move(to_engine), timeouts);
  const auto sent = co_await std::move(sending);
  wait.reset();
  if (!sent) co_return fail(engine_trouble(target.model, sent.error()));
  http::Response& response = **sent;
  if (response.head().status >= 400) {
    auto reading = read_refusal(response, target.model);
    Error refusal = co_await std::move(reading);
    co_return fail(std::move(refusal));
  }
  const Passage passage{delivery, target, response, seam, start};
  if (!is_event_stream(response.head().headers) || request.form == ReplyForm::kAsIs) {
    auto passing = pass_pieces(passage);
    co_return co_await std::move(passing);
  }
  auto passing = request.form == ReplyForm::kWhole ? pass_whole(passage) : pass_events(passage);
  co_return co_await std::move(passing);
}

}  // namespace yoke::gateway
