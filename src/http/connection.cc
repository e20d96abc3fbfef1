#include "http/connection.h"

#include <array>
#include <optional>
#include <span>

#include <boost/asio/buffer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <fmt/format.h>

#include "base/log.h"
#include "io/wait_for_one.h"
#include "io/watchdog.h"

namespace yoke::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using namespace std::chrono_literals;
using ErrorCondition = boost::system::error_code;

constexpr std::size_t kReadBytes = 16u << 10;
// What a client may pipeline while its reply runs. With more, the connection ends after that reply.
constexpr std::size_t kReadAheadBytes = 64u << 10;
// A closed socket with unread input sends a reset, which can destroy the reply on its way: read the
// input for a while first.
constexpr std::uint64_t kLingerBytes = 256u << 20;
constexpr auto kLingerTime = 5s;
constexpr std::uint64_t kSkipBodyBytes = 256u << 10;

std::string serialize(const ResponseHead& head) {
  std::string text = fmt::format("HTTP/1.1 {} {}\r\n", head.status, reason_phrase(head.status));
  for (const Header& header : head.headers) {
    text += fmt::format("{}: {}\r\n", header.name, header.value);
  }
  return text + "\r\n";
}

}  // namespace

struct Connection::Impl {
  using Parser = beast::http::request_parser<beast::http::buffer_body>;

  // How the end of the reply's body is told to the client.
  enum class Framing { kNone, kLength, kChunked, kUntilClose };

  Impl(asio::ip::tcp::socket accepted, const ServerOptions& server_options,
       const Handler& on_request)
      : socket(std::move(accepted)),
        options(server_options),
        handler(on_request),
        buffer(options.max_header_bytes + kReadAheadBytes),
        watchdog(socket.get_executor(), [] {}) {}

  io::Task<void> serve(Connection& owner);
  io::Task<bool> next_request();
  io::Task<bool> wait_for_first_byte();
  void refuse(int status, const Error& error);
  io::Task<Result<std::size_t>> read_piece(std::span<char> into);
  io::Task<bool> skip_body();
  io::Task<void> linger();
  template <std::size_t N>
  io::Task<Result<void>> send(std::array<asio::const_buffer, N> buffers);
  Error transfer_error(const ErrorCondition& error) const;
  void take_head();

  asio::ip::tcp::socket socket;
  const ServerOptions& options;
  const Handler& handler;
  beast::flat_buffer buffer;
  io::Watchdog watchdog;
  std::optional<Parser> parser;
  RequestHead head;

  bool idle = false;       // Between requests.
  bool finishing = false;  // finish() was called.
  bool broken = false;     // No more can be sent.
  bool keep_alive = false;
  bool unread_input = false;  // Closing now would reset the connection.
  bool continue_wanted = false;

  bool begun = false;
  bool done = false;
  Framing framing = Framing::kNone;
  std::uint64_t length_left = 0;
};

// ---- Receiving ----------------------------------------------------------------------------------

io::Task<bool> Connection::Impl::wait_for_first_byte() {
  if (buffer.size() > 0) co_return true;
  idle = true;
  watchdog.arm(options.idle_timeout);
  ErrorCondition error;
  const auto room = buffer.prepare(kReadBytes);
  const std::size_t got = co_await socket.async_read_some(room, io::into(error));
  idle = false;
  if (error) co_return false;
  buffer.commit(got);
  co_return true;
}

void Connection::Impl::take_head() {
  const auto& message = parser->get();
  const auto method = message.method_string();
  const auto target = message.target();
  head = RequestHead{};
  head.method.assign(method.data(), method.size());
  head.target.assign(target.data(), target.size());
  head.http_1_0 = message.version() < 11;
  for (const auto& field : message) {
    const auto name = field.name_string();
    const auto value = field.value();
    head.headers.add({name.data(), name.size()}, {value.data(), value.size()});
  }
  keep_alive = message.keep_alive();
  continue_wanted = !head.http_1_0 && head.headers.has_token("Expect", "100-continue");
  begun = done = false;
}

// False when the connection is to be closed.
io::Task<bool> Connection::Impl::next_request() {
  const bool awake = co_await wait_for_first_byte();
  if (!awake) co_return false;
  parser.emplace();
  parser->header_limit(static_cast<std::uint32_t>(options.max_header_bytes));
  parser->body_limit(boost::none);  // read_body has the limit, and an answer for who exceeds it.
  watchdog.arm(options.header_timeout);
  ErrorCondition error;
  co_await beast::http::async_read_header(socket, buffer, *parser, io::into(error));
  watchdog.disarm();
  if (!error) {
    take_head();
    co_return true;
  }
  using beast::http::error::header_limit;
  if (error == header_limit || error == beast::http::error::buffer_overflow) {
    refuse(431, {kHeaderTooLarge, fmt::format("The request's head is larger than {} bytes.",
                                              options.max_header_bytes)});
  } else if (watchdog.expired()) {
    refuse(408, {kTimeout, "The request's head did not arrive in time."});
  } else if (error.category() == beast::http::make_error_code(header_limit).category() &&
             error != beast::http::error::end_of_stream &&
             error != beast::http::error::partial_message) {
    refuse(400, {kBadRequest, fmt::format("This is no valid HTTP request ({}).", error.message())});
  }
  co_return false;
}

// Answers a request that no handler sees, and ends the connection.
void Connection::Impl::refuse(int status, const Error& error) {
  ErrorBody page = options.error_body ? options.error_body(status, error)
                                      : ErrorBody{"text/plain; charset=utf-8", error.text() + "\n"};
  ResponseHead reply{status, {{"Content-Type", page.content_type}, {"Connection", "close"}}};
  reply.headers.set("Content-Length", std::to_string(page.body.size()));
  const std::string text = serialize(reply) + page.body;
  unread_input = true;
  // No waiting: after an expired deadline this task is cancelled. A fresh socket takes so little.
  ErrorCondition ignored;
  socket.non_blocking(true, ignored);
  socket.write_some(asio::buffer(text), ignored);
}

Error Connection::Impl::transfer_error(const ErrorCondition& error) const {
  if (watchdog.expired()) return {kTimeout, "The client did not go on in time."};
  if (error == asio::error::operation_aborted) return {kCancelled, "The request was cancelled."};
  return {kPeerClosed, fmt::format("The client left ({}).", error.message())};
}

// The next piece of the request's body; 0 at its end.
io::Task<Result<std::size_t>> Connection::Impl::read_piece(std::span<char> into) {
  auto& body = parser->get().body();
  while (!parser->is_done()) {
    body.data = into.data();
    body.size = into.size();
    ErrorCondition error;
    watchdog.arm(options.body_timeout);
    co_await beast::http::async_read_some(socket, buffer, *parser, io::into(error));
    watchdog.disarm();
    const std::size_t got = into.size() - body.size;
    if (error == beast::http::error::need_buffer) error = {};
    if (got > 0) co_return got;
    if (!error) continue;
    broken = true;
    if (error.category() ==
            beast::http::make_error_code(beast::http::error::bad_chunk).category() &&
        error != beast::http::error::partial_message) {
      broken = false;  // The framing is wrong, but the client is there and can be told.
      keep_alive = false;
      unread_input = true;
      co_return fail(kBadRequest,
                     fmt::format("The request's body is no valid HTTP ({}).", error.message()));
    }
    co_return fail(transfer_error(error));
  }
  co_return std::size_t{0};
}

io::Task<Result<std::string>> Connection::read_body(std::optional<std::uint64_t> max_bytes) {
  Impl& impl = *impl_;
  const std::uint64_t limit = max_bytes.value_or(impl.options.max_body_bytes);
  const auto announced = impl.parser->content_length();
  const auto too_large = [&impl, limit] {
    impl.keep_alive = false;
    impl.unread_input = true;
    return fail(kBodyTooLarge, fmt::format("The request's body is larger than {} bytes.", limit));
  };
  if (announced && *announced > limit) co_return too_large();
  if (std::exchange(impl.continue_wanted, false) && impl.buffer.size() == 0 &&
      !impl.parser->is_done()) {
    static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    const std::array<asio::const_buffer, 1> message{asio::buffer(kContinue)};
    YOKE_CO_CHECK(co_await impl.send(message));
  }
  std::string body;
  if (announced) body.reserve(std::min<std::uint64_t>(*announced, 1u << 20));
  std::array<char, kReadBytes> piece;
  while (true) {
    YOKE_CO_TRY(const std::size_t got, co_await impl.read_piece(piece));
    if (got == 0) co_return body;
    if (body.size() + got > limit) co_return too_large();
    body.append(piece.data(), got);
  }
}

// Reads what the handler left of the body; false if that is too much to be worth it.
io::Task<bool> Connection::Impl::skip_body() {
  std::array<char, kReadBytes> piece;
  std::uint64_t skipped = 0;
  // A client that waits for "100 Continue" will not send its body any more.
  while (!parser->is_done() && !continue_wanted && skipped <= kSkipBodyBytes) {
    const auto got = co_await read_piece(piece);
    if (!got) co_return false;
    skipped += *got;
  }
  unread_input = !parser->is_done();
  co_return parser->is_done();
}

io::Task<void> Connection::Impl::linger() {
  ErrorCondition error;
  socket.shutdown(asio::ip::tcp::socket::shutdown_send, error);
  std::array<char, kReadBytes> piece;
  watchdog.arm(kLingerTime);
  for (std::uint64_t read = 0; !error && read < kLingerBytes;) {
    const auto room = asio::buffer(piece);
    read += co_await socket.async_read_some(room, io::into(error));
  }
}

io::Task<void> Connection::client_gone() {
  Impl& impl = *impl_;
  ErrorCondition error;
  std::array<char, kReadBytes> dropped;
  // The client's end of stream can only be seen behind whatever it has pipelined, so read that.
  while (!error) {
    if (impl.buffer.size() < kReadAheadBytes) {
      const auto room = impl.buffer.prepare(kReadBytes);
      const std::size_t got = co_await impl.socket.async_read_some(room, io::into(error));
      if (!error) impl.buffer.commit(got);
    } else {
      impl.keep_alive = false;  // What is dropped here cannot be served any more.
      const auto room = asio::buffer(dropped);
      co_await impl.socket.async_read_some(room, io::into(error));
    }
  }
  if (error != asio::error::operation_aborted) impl.broken = true;
}

// ---- Sending ------------------------------------------------------------------------------------

template <std::size_t N>
io::Task<Result<void>> Connection::Impl::send(std::array<asio::const_buffer, N> buffers) {
  if (broken) co_return fail(kPeerClosed, "The client left.");
  watchdog.arm(options.write_timeout);
  ErrorCondition error;
  co_await asio::async_write(socket, buffers, io::into(error));
  watchdog.disarm();
  if (!error) co_return Result<void>{};
  broken = true;
  co_return fail(transfer_error(error));
}

io::Task<Result<void>> Connection::begin_reply(ResponseHead reply) {
  Impl& impl = *impl_;
  const auto length = reply.headers.get("Content-Length");
  if (impl.head.method == "HEAD" || reply.status == 204 || reply.status == 304) {
    impl.framing = Impl::Framing::kNone;
  } else if (length) {
    impl.framing = Impl::Framing::kLength;
    impl.length_left = std::strtoull(std::string(*length).c_str(), nullptr, 10);
  } else if (!impl.head.http_1_0) {
    impl.framing = Impl::Framing::kChunked;
    reply.headers.set("Transfer-Encoding", "chunked");
  } else {
    impl.framing = Impl::Framing::kUntilClose;
    impl.keep_alive = false;
  }
  if (impl.finishing) impl.keep_alive = false;
  reply.headers.set("Connection", impl.keep_alive ? "keep-alive" : "close");
  impl.begun = true;
  const std::string text = serialize(reply);
  const std::array<asio::const_buffer, 1> message{asio::buffer(text)};
  co_return co_await impl.send(message);
}

io::Task<Result<void>> Connection::write(std::string_view piece) {
  Impl& impl = *impl_;
  // A chunk of length zero would end the reply.
  if (piece.empty() || impl.framing == Impl::Framing::kNone) co_return Result<void>{};
  if (impl.framing == Impl::Framing::kChunked) {
    std::array<char, 20> size;
    const auto end = fmt::format_to_n(size.data(), size.size(), "{:x}\r\n", piece.size());
    const std::array<asio::const_buffer, 3> chunk{asio::buffer(size.data(), end.size),
                                                  asio::buffer(piece), asio::buffer("\r\n", 2)};
    co_return co_await impl.send(chunk);
  }
  if (impl.framing == Impl::Framing::kLength) {
    if (piece.size() > impl.length_left) {
      impl.broken = true;
      co_return fail(kInternal, "A reply is longer than its Content-Length.");
    }
    impl.length_left -= piece.size();
  }
  const std::array<asio::const_buffer, 1> message{asio::buffer(piece)};
  co_return co_await impl.send(message);
}

io::Task<Result<void>> Connection::end_reply() {
  Impl& impl = *impl_;
  if (impl.framing == Impl::Framing::kChunked) {
    static constexpr std::string_view kLastChunk = "0\r\n\r\n";
    const std::array<asio::const_buffer, 1> message{asio::buffer(kLastChunk)};
    YOKE_CO_CHECK(co_await impl.send(message));
  } else if (impl.framing == Impl::Framing::kLength && impl.length_left > 0) {
    impl.broken = true;
    co_return fail(kInternal, "A reply is shorter than its Content-Length.");
  }
  impl.done = true;
  co_return Result<void>{};
}

io::Task<Result<void>> Connection::reply(ResponseHead reply, std::string body) {
  Impl& impl = *impl_;
  if (impl.finishing) impl.keep_alive = false;
  reply.headers.set("Content-Length", std::to_string(body.size()));
  reply.headers.set("Connection", impl.keep_alive ? "keep-alive" : "close");
  impl.begun = true;
  if (impl.head.method == "HEAD") body.clear();
  const std::string text = serialize(reply);
  const std::array<asio::const_buffer, 2> message{asio::buffer(text), asio::buffer(body)};
  auto sent = co_await impl.send(message);
  impl.done = sent.has_value();
  co_return sent;
}

bool Connection::reply_begun() const { return impl_->begun; }
const RequestHead& Connection::request() const { return impl_->head; }

// ---- Life ---------------------------------------------------------------------------------------

Connection::Connection(asio::ip::tcp::socket socket, const ServerOptions& options,
                       const Handler& handler)
    : impl_(std::make_unique<Impl>(std::move(socket), options, handler)) {}

Connection::~Connection() = default;

io::Task<void> Connection::Impl::serve(Connection& owner) {
  while (!finishing && !broken) {
    const bool request = co_await next_request();
    if (!request) break;
    try {
      Exchange exchange(owner);
      co_await handler(exchange);
    } catch (const boost::system::system_error& e) {
      if (e.code() == asio::error::operation_aborted) throw;  // This task is cancelled.
      log::error("The handler of {} {} failed: {}", head.method, head.path(), e.what());
    } catch (const std::exception& e) {
      log::error("The handler of {} {} failed: {}", head.method, head.path(), e.what());
    }
    if (!done || broken) {
      // Chunked and counted replies show that they were cut; one that lasts until the close would
      // look whole, so reset the connection in place of an orderly end.
      ErrorCondition ignored;
      if (begun) socket.set_option(asio::socket_base::linger(true, 0), ignored);
      co_return;
    }
    const bool skipped = co_await skip_body();
    if (!skipped || !keep_alive) break;
  }
  if (unread_input && !broken) co_await linger();
}

io::Task<void> Connection::run() {
  ErrorCondition ignored;
  impl_->socket.set_option(asio::ip::tcp::no_delay(true), ignored);
  auto serving = impl_->serve(*this);
  auto watching = impl_->watchdog.run();
  co_await io::wait_for_one(std::move(serving), std::move(watching));
}

void Connection::finish() {
  impl_->finishing = true;
  ErrorCondition ignored;
  if (impl_->idle) impl_->socket.cancel(ignored);
}

}  // namespace yoke::http
