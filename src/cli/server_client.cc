#include "cli/server_client.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <fmt/format.h>

#include "base/json_fields.h"
#include "cli/api_error.h"

namespace yoke::cli {
namespace {

namespace asio = boost::asio;

constexpr std::size_t kMaxReplyBytes = 64u << 20;
constexpr std::size_t kMaxKeyBytes = 4096;
constexpr std::chrono::milliseconds kTick{500};

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

Result<std::string> read_key_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string key(std::istreambuf_iterator<char>(file), {});
  if (!file) {
    return fail(kIo,
                fmt::format("Cannot read the API key file {}: {}.", path, std::strerror(errno)));
  }
  key.erase(key.find_last_not_of(" \t\r\n") + 1);
  if (key.empty())
    return fail(kInvalidArgument, fmt::format("The API key file {} is empty.", path));
  return key;
}

// A key goes into a header, so it must not bring one of its own along.
Result<std::string> checked_key(std::string key) {
  const auto visible = [](unsigned char c) { return c > 0x20 && c < 0x7f; };
  if (key.size() > kMaxKeyBytes || !std::all_of(key.begin(), key.end(), visible)) {
    return fail(kInvalidArgument, "The API key holds characters that no key can have.",
                "It has to be one word of visible ASCII characters.");
  }
  return key;
}

io::Task<Result<std::unique_ptr<http::Response>>> open(http::ClientRequest request,
                                                       http::ClientTimeouts timeouts,
                                                       std::string server) {
  auto sent = co_await http::send(std::move(request), timeouts);
  if (!sent) co_return fail(std::move(sent.error()));
  const int status = (*sent)->head().status;
  if (status == 200) co_return std::move(*sent);
  auto body = co_await (*sent)->read_all(kMaxReplyBytes);
  co_return fail(error_of_reply(status, body.value_or(""), server));
}

io::Task<Result<std::string>> fetch_body(http::ClientRequest request, http::ClientTimeouts timeouts,
                                         std::string server) {
  auto response = co_await open(std::move(request), timeouts, std::move(server));
  if (!response) co_return fail(std::move(response.error()));
  co_return co_await (*response)->read_all(kMaxReplyBytes);
}

io::Task<Result<void>> read_events(http::ClientRequest request, http::ClientTimeouts timeouts,
                                   std::string server, const EventHandlers& handlers) {
  auto response = co_await open(std::move(request), timeouts, std::move(server));
  if (!response) co_return fail(std::move(response.error()));
  http::SseParser parser;
  http::SseEvent event;
  while (true) {
    auto piece = co_await (*response)->read();
    if (!piece) co_return fail(std::move(piece.error()));
    if (piece->empty()) co_return Result<void>{};
    YOKE_CO_CHECK(parser.feed(*piece));
    while (parser.next(event)) YOKE_CO_CHECK(handlers.on_event(event));
  }
}

io::Task<void> tick(std::function<void()> on_tick) {
  const auto executor = co_await asio::this_coro::executor;
  asio::steady_timer timer(executor);
  boost::system::error_code error;
  while (!error) {
    timer.expires_after(kTick);
    co_await timer.async_wait(io::into(error));
    if (!error) on_tick();
  }
}

// Runs the task until it ends or Ctrl-C is pressed. Whatever is left then goes with the context,
// connections included: a cancellation could come just between two steps of the task and get lost.
template <class T>
Result<T> run_blocking(io::Task<Result<T>> task, const Interrupts* interrupts,
                       std::function<void()> on_tick) {
  asio::io_context context(1);
  Result<T> outcome = fail(kCancelled, "Stopped by Ctrl-C.");
  std::exception_ptr thrown;
  const auto stop = [&](std::exception_ptr error) {
    thrown = error;
    context.stop();
  };
  asio::co_spawn(context, std::move(task), [&](std::exception_ptr error, Result<T> result) {
    outcome = std::move(result);
    stop(error);
  });
  if (interrupts != nullptr) asio::co_spawn(context, interrupts->pressed(), stop);
  if (on_tick) asio::co_spawn(context, tick(std::move(on_tick)), stop);
  context.run();
  if (thrown) std::rethrow_exception(thrown);
  return outcome;
}

}  // namespace

Result<ServerClient> ServerClient::create(const ConnectOptions& options,
                                          const Interrupts* interrupts) {
  std::string address = options.url.empty() ? environment("YOKE_URL") : options.url;
  if (address.empty()) address = kDefaultUrl;
  YOKE_TRY(ServerUrl url, parse_server_url(address));
  std::string key = environment("YOKE_API_KEY");
  if (!options.api_key_file.empty()) {
    YOKE_TRY(key, read_key_file(options.api_key_file));
  }
  YOKE_TRY(key, checked_key(std::move(key)));
  return ServerClient(std::move(url), std::move(key), interrupts);
}

ServerClient::ServerClient(ServerUrl url, std::string api_key, const Interrupts* interrupts)
    : url_(std::move(url)), api_key_(std::move(api_key)), interrupts_(interrupts) {}

http::ClientRequest ServerClient::request(Call& call) const {
  http::ClientRequest request{.to = url_.endpoint, .head = {}, .body = std::move(call.body)};
  request.head.method = std::move(call.method);
  request.head.target = url_.prefix + call.target;
  request.head.headers.set("User-Agent", "yoke");
  if (!request.body.empty()) request.head.headers.set("Content-Type", "application/json");
  if (!api_key_.empty()) request.head.headers.set("Authorization", "Bearer " + api_key_);
  return request;
}

Error ServerClient::explain(Error error) const {
  if (error.code == http::kUnreachable) {
    return {error.code, fmt::format("No Yoke server answers at {}.", url_.text),
            "Start one with `yoke serve`, or name it with --url."};
  }
  return error;
}

Result<std::string> ServerClient::fetch(Call call, std::function<void()> on_tick) const {
  auto body = run_blocking(fetch_body(request(call), call.timeouts, url_.text), interrupts_,
                           std::move(on_tick));
  if (!body) return fail(explain(std::move(body.error())));
  return body;
}

Result<boost::json::value> ServerClient::fetch_json(Call call) const {
  YOKE_TRY(const std::string body, fetch(std::move(call)));
  auto json = parse_json(body);
  if (json) return json;
  return fail(http::kBadResponse,
              fmt::format("{} answered with something that is no JSON.", url_.text),
              "Check the address that --url or YOKE_URL gives.");
}

Result<void> ServerClient::stream(Call call, EventHandlers handlers) const {
  http::ClientRequest message = request(call);
  message.head.headers.set("Accept", "text/event-stream");
  auto done = run_blocking(read_events(std::move(message), call.timeouts, url_.text, handlers),
                           interrupts_, handlers.on_tick);
  if (!done) return fail(explain(std::move(done.error())));
  return done;
}

std::string encode_query(std::string_view text) {
  std::string encoded;
  for (const char c : text) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 ||
                       std::string_view("-._~").find(c) != std::string_view::npos;
    encoded += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return encoded;
}

}  // namespace yoke::cli
