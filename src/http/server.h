// HTTP/1.1 server: keep-alive, pipelining, streaming with backpressure, and notice of clients that
// leave. A connection lives on one context of the pool from accept to close; so does its handler.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "http/message.h"
#include "io/context_pool.h"
#include "io/task.h"

namespace yoke::http {

class Connection;

// The body of a reply that the server itself gives, to a request that no handler ever sees.
struct ErrorBody {
  std::string content_type;
  std::string body;
};

struct ServerOptions {
  std::string address = "127.0.0.1";  // An IP address.
  std::uint16_t port = 0;             // 0: any free one.
  std::size_t max_header_bytes = 64u << 10;
  std::uint64_t max_body_bytes = 64u << 20;
  std::size_t max_connections = 4096;
  std::chrono::milliseconds idle_timeout{75'000};    // Between requests.
  std::chrono::milliseconds header_timeout{20'000};  // From the first byte to the head's end.
  std::chrono::milliseconds body_timeout{30'000};    // Between two pieces of a request's body.
  std::chrono::milliseconds write_timeout{120'000};  // For the client to take a piece of the reply.
  // Empty: the error's text. Called on the connections' threads.
  std::function<ErrorBody(int status, const Error& error)> error_body{};
};

// One request and its reply. Lives as long as the handler's call; only on the handler's thread.
class Exchange {
 public:
  explicit Exchange(Connection& connection) : connection_(connection) {}
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  const RequestHead& request() const;

  // The whole body. kBodyTooLarge over `max_bytes` (none: ServerOptions::max_body_bytes),
  // kBadRequest, kTimeout, kPeerClosed.
  io::Task<Result<std::string>> read_body(std::optional<std::uint64_t> max_bytes = std::nullopt);

  // A whole reply at once.
  io::Task<Result<void>> reply(ResponseHead head, std::string body);

  // A streamed reply: begin, write pieces, end. With a Content-Length in the head the pieces are
  // sent as they are, otherwise each becomes one chunk. write() returns when the kernel took the
  // piece: wait for it before reading the next one from the source. kPeerClosed, kTimeout.
  io::Task<Result<void>> begin_reply(ResponseHead head);
  io::Task<Result<void>> write(std::string_view piece);
  io::Task<Result<void>> end_reply();

  bool reply_begun() const;

  // Ends when the client has left, also while nothing is being sent. Call it after read_body: it
  // reads ahead what the client pipelines. Cancel it (io::wait_for_one) before the handler returns.
  io::Task<void> client_gone();

 private:
  Connection& connection_;
};

// Runs on the connection's thread, once per request. If it returns without a full reply, the
// connection is closed, so that the client sees a cut reply and not a short one.
using Handler = std::function<io::Task<void>(Exchange&)>;

class Server {
 public:
  // Listens and accepts. kAddressInUse if the port is taken, kInvalidArgument for a bad address.
  static Result<std::unique_ptr<Server>> start(io::ContextPool& pool, ServerOptions options,
                                               Handler handler);
  ~Server();

  std::uint16_t port() const;
  std::size_t connections() const;  // Open now; any thread.

  // Accepts no more, closes idle connections, gives running replies `grace` to end and then cuts
  // them. Blocks; call it from a thread outside the pool, once, before the pool stops.
  void stop(std::chrono::milliseconds grace);

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace yoke::http
