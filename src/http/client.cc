#include "http/client.h"

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <fmt/format.h>

namespace yoke::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using tcp = asio::ip::tcp;
using ErrorCondition = boost::system::error_code;

constexpr std::size_t kPieceBytes = 16u << 10;
constexpr std::uint32_t kMaxHeaderBytes = 64u << 10;

std::string describe(const Endpoint& to) {
  const bool ipv6 = to.host.find(':') != std::string::npos;
  return ipv6 ? fmt::format("[{}]:{}", to.host, to.port) : fmt::format("{}:{}", to.host, to.port);
}

// What went wrong after the connection stood.
Error transfer_error(const ErrorCondition& error, const Endpoint& to) {
  if (error == beast::error::timeout) {
    return {kTimeout, fmt::format("{} did not answer in time.", describe(to))};
  }
  if (error == asio::error::operation_aborted) return {kCancelled, "The request was cancelled."};
  // Beast's own parse errors have a category of their own; a cut message is the peer's leaving.
  if (error == beast::http::error::end_of_stream || error == beast::http::error::partial_message ||
      error.category() != beast::http::make_error_code(beast::http::error::bad_chunk).category()) {
    return {kPeerClosed,
            fmt::format("{} closed the connection before its answer was complete ({}).",
                        describe(to), error.message())};
  }
  return {kBadResponse,
          fmt::format("{} sent something that is no HTTP ({}).", describe(to), error.message())};
}

std::string serialize(const ClientRequest& request) {
  std::string text = fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
                                 request.head.method, request.head.target, describe(request.to));
  if (!request.body.empty() || request.head.method == "POST") {
    text += fmt::format("Content-Length: {}\r\n", request.body.size());
  }
  for (const Header& header : request.head.headers) {
    text += fmt::format("{}: {}\r\n", header.name, header.value);
  }
  return text + "\r\n";
}

}  // namespace

struct Response::Impl {
  Impl(asio::any_io_executor executor, Endpoint endpoint)
      : to(std::move(endpoint)),
        stream(std::move(executor)),
        buffer(kMaxHeaderBytes + kPieceBytes) {
    // Beast's defaults would end a response at 8 MB, and a stream has no length.
    parser.body_limit(boost::none);
    parser.header_limit(kMaxHeaderBytes);
    buffer.reserve(kPieceBytes);  // Beast reads into what there is: 512 bytes at once, if nothing.
  }

  io::Task<Result<void>> connect(std::chrono::milliseconds limit);

  Endpoint to;
  beast::tcp_stream stream;
  beast::flat_buffer buffer;
  beast::http::response_parser<beast::http::buffer_body> parser;
  ResponseHead head;
  std::chrono::milliseconds idle{};
  std::array<char, kPieceBytes> piece;
};

io::Task<Result<void>> Response::Impl::connect(std::chrono::milliseconds limit) {
  ErrorCondition error;
  stream.expires_after(limit);
  const auto address = asio::ip::make_address(to.host, error);
  if (!error) {
    const tcp::endpoint endpoint(address, to.port);
    co_await stream.async_connect(endpoint, io::into(error));
  } else {
    tcp::resolver resolver(stream.get_executor());
    const std::string port = std::to_string(to.port);
    const auto endpoints = co_await resolver.async_resolve(to.host, port, io::into(error));
    if (!error) co_await stream.async_connect(endpoints, io::into(error));
  }
  if (error == asio::error::operation_aborted) {
    co_return fail(kCancelled, "The request was cancelled.");
  }
  if (error) {
    co_return fail(kUnreachable,
                   fmt::format("Cannot reach {}: {}.", describe(to), error.message()));
  }
  stream.socket().set_option(tcp::no_delay(true), error);
  co_return Result<void>{};
}

Response::Response(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Response::~Response() = default;

const ResponseHead& Response::head() const { return impl_->head; }
void Response::set_idle_timeout(std::chrono::milliseconds limit) { impl_->idle = limit; }

io::Task<Result<std::string_view>> Response::read() {
  Impl& impl = *impl_;
  auto& body = impl.parser.get().body();
  // A read may take in no more than a chunk's head, so go on until there is something to give.
  while (!impl.parser.is_done()) {
    body.data = impl.piece.data();
    body.size = impl.piece.size();
    ErrorCondition error;
    impl.stream.expires_after(impl.idle);
    co_await beast::http::async_read_some(impl.stream, impl.buffer, impl.parser, io::into(error));
    const std::size_t got = impl.piece.size() - body.size;
    if (error == beast::http::error::need_buffer) error = {};
    if (got > 0) co_return std::string_view(impl.piece.data(), got);
    if (error) co_return fail(transfer_error(error, impl.to));
  }
  co_return std::string_view{};
}

io::Task<Result<std::string>> Response::read_all(std::size_t limit) {
  std::string body;
  while (true) {
    YOKE_CO_TRY(const std::string_view piece, co_await read());
    if (piece.empty()) co_return body;
    if (body.size() + piece.size() > limit) {
      co_return fail(kBadResponse,
                     fmt::format("The answer of {} is too long.", describe(impl_->to)));
    }
    body += piece;
  }
}

io::Task<Result<std::unique_ptr<Response>>> send(ClientRequest request, ClientTimeouts timeouts) {
  const auto executor = co_await asio::this_coro::executor;
  auto impl = std::make_unique<Response::Impl>(executor, request.to);
  YOKE_CO_CHECK(co_await impl->connect(timeouts.connect));

  const std::string head = serialize(request);
  const std::array<asio::const_buffer, 2> message{asio::buffer(head), asio::buffer(request.body)};
  ErrorCondition write_error;
  impl->stream.expires_after(timeouts.head);
  co_await asio::async_write(impl->stream, message, io::into(write_error));
  if (write_error == asio::error::operation_aborted || write_error == beast::error::timeout) {
    co_return fail(transfer_error(write_error, request.to));
  }

  // Also after a failed write: a server that refuses a request may answer before it took all of it.
  ErrorCondition error;
  impl->stream.expires_after(timeouts.head);
  co_await beast::http::async_read_header(impl->stream, impl->buffer, impl->parser,
                                          io::into(error));
  if (error) co_return fail(transfer_error(write_error ? write_error : error, request.to));

  const auto& message_head = impl->parser.get();
  impl->head.status = static_cast<int>(message_head.result_int());
  for (const auto& field : message_head) {
    const auto name = field.name_string();
    const auto value = field.value();
    impl->head.headers.add({name.data(), name.size()}, {value.data(), value.size()});
  }
  impl->idle = timeouts.idle;
  co_return std::unique_ptr<Response>(new Response(std::move(impl)));
}

}  // namespace yoke::http
