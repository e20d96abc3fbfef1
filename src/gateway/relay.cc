#include "gateway/relay.h"

#include <algorithm>
#include <array>
#include <initializer_list>

#include <fmt/format.h>

#include "base/json_fields.h"
#include "base/log.h"
#include "gateway/api_error.h"
#include "supervisor/control_loop.h"
#include "supervisor/instance.h"

namespace yoke::gateway {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kEventStream = "text/event-stream";

// RFC 9110, 7.6.1: about one connection only. Whatever Connection names is left out too.
constexpr std::array<std::string_view, 8> kHopByHop{
    "Connection", "Keep-Alive", "Proxy-Connection",  "TE",
    "Trailer",    "Upgrade",    "Transfer-Encoding", "Expect"};
// Yoke's own affair: its keys, its CORS rules; and a coding that it could not look into.
constexpr std::array<std::string_view, 8> kNotForEngine{
    "Host",   "Authorization", "X-Api-Key",      "Cookie",
    "Origin", "Referer",       "Content-Length", "Accept-Encoding"};
constexpr std::array<std::string_view, 1> kNotForClient{"Server"};

http::Headers filtered(const http::Headers& headers,
                       std::initializer_list<bool (*)(std::string_view)> drop) {
  http::Headers kept;
  for (const http::Header& header : headers) {
    const bool dropped = std::ranges::any_of(drop, [&](auto test) { return test(header.name); }) ||
                         headers.has_token("Connection", header.name);
    if (!dropped) kept.add(header.name, header.value);
  }
  return kept;
}

bool in(std::span<const std::string_view> names, std::string_view name) {
  return std::ranges::any_of(
      names, [name](std::string_view known) { return http::equals_ignoring_case(known, name); });
}

bool is_hop_by_hop(std::string_view name) { return in(kHopByHop, name); }
bool is_not_for_engine(std::string_view name) { return in(kNotForEngine, name); }
bool is_not_for_client(std::string_view name) {
  constexpr std::string_view kCors = "Access-Control-";
  return in(kNotForClient, name) || http::equals_ignoring_case(name.substr(0, kCors.size()), kCors);
}

// What the client is told of a failed exchange with the engine; its address is nobody's business.
Error engine_trouble(const std::string& model, const Error& error) {
  if (error.code == kTimeout) {
    return {kTimeout, fmt::format("The engine of the model '{}' did not answer in time.", model),
            "Raise first_byte_timeout or idle_timeout in [server] if that was too early."};
  }
  if (error.code == kCancelled) return error;
  return {supervisor::kEngineFailed,
          fmt::format("The engine of the model '{}' failed before its answer was complete.", model),
          "It is started again: repeat the request."};
}

struct Refusal {
  std::string_view type;  // The engine's name of it.
  ErrorCode code;
};

// llama-server's error types (server-common.h, error_type) as stable codes.
constexpr std::array kRefusals{
    Refusal{"exceed_context_size_error", kContextLengthExceeded},
    Refusal{"invalid_request_error", kRefusedByEngine},
    Refusal{"not_supported_error", kNotSupported},
    Refusal{"unavailable_error", supervisor::kModelLoading},
};

// The engine's answer with a status of 400 or more, as an error of ours.
io::Task<Error> read_refusal(http::Response& response, std::string model) {
  constexpr std::size_t kMaxRefusal = 64u << 10;
  auto reading = response.read_all(kMaxRefusal);
  const auto body = co_await std::move(reading);
  if (!body) co_return engine_trouble(model, body.error());
  const int status = response.head().status;
  Error error{status < 500 ? kRefusedByEngine : kEngineError,
              fmt::format("The engine of the model '{}' answered with status {}.", model, status)};
  const auto document = parse_json(*body);
  const auto fields = document ? JsonFields::of(*document) : fail(document.error());
  const auto details = fields ? fields->object("error") : fail(fields.error());
  if (!details) co_return error;
  error.message = details->string_or("message", error.message);
  const std::string type = details->string_or("type", "");
  for (const Refusal& refusal : kRefusals) {
    if (refusal.type == type) error.code = refusal.code;
  }
  co_return error;
}

// The engine failed in the middle of an answer. True if the client could be told in the stream.
io::Task<bool> end_with_error_event(http::Exchange& exchange, Error error) {
  const std::string event = "data: " + error_body(status_of(error.code), error) + "\n\n";
  const auto written = co_await exchange.write(event);
  if (!written) co_return false;
  const auto ended = co_await exchange.end_reply();
  co_return ended.has_value();
}

}  // namespace

http::Headers headers_for_engine(const http::Headers& from_client) {
  return filtered(from_client, {is_hop_by_hop, is_not_for_engine});
}

http::Headers headers_for_client(const http::Headers& from_engine) {
  return filtered(from_engine, {is_hop_by_hop, is_not_for_client});
}

io::Task<Result<void>> relay(http::Exchange& exchange, RelayTarget target, std::string body,
                             http::Headers extra_headers, Metrics& metrics) {
  const auto start = Clock::now();
  const http::RequestHead& request = exchange.request();
  http::ClientRequest to_engine{target.engine, {request.method, request.target}, std::move(body)};
  to_engine.head.headers = headers_for_engine(request.headers);
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

  // Wait for the first piece before the client is told of a success.
  auto first = co_await response.read();
  if (!first) co_return fail(engine_trouble(target.model, first.error()));
  response.set_idle_timeout(target.limits.idle);
  metrics.count_first_byte(Clock::now() - start);

  http::ResponseHead head{response.head().status, headers_for_client(response.head().headers)};
  const auto content_type = head.headers.get("Content-Type");
  const bool event_stream = content_type && content_type->starts_with(kEventStream);
  if (event_stream) {
    head.headers.set("X-Accel-Buffering", "no");  // Or nginx in front would collect the stream.
    head.headers.set("Cache-Control", "no-cache");
  }
  for (const http::Header& header : extra_headers) head.headers.set(header.name, header.value);
  auto begun = co_await exchange.begin_reply(std::move(head));
  if (!begun) co_return fail(http::kPeerClosed, "The client left.");

  std::string_view piece = *first;
  while (!piece.empty()) {
    metrics.count_chunk(piece.size());
    const auto written = co_await exchange.write(piece);
    if (!written) co_return fail(http::kPeerClosed, "The client left.");
    auto next = co_await response.read();
    if (next) {
      piece = *next;
      continue;
    }
    if (next.error().code == kCancelled) co_return Result<void>{};
    log::warning("Model {}: an answer was cut: {}", target.model, next.error().text());
    metrics.count_cut_stream();
    if (event_stream) {
      Error error = engine_trouble(target.model, next.error());
      co_await end_with_error_event(exchange, std::move(error));
    }
    co_return Result<void>{};
  }
  co_await exchange.end_reply();
  co_return Result<void>{};
}

}  // namespace yoke::gateway
