// HTTP/1.1 client for loopback and LAN: one connection per request, closed after it, because the
// engines' servers tie a thread to every open connection. Coroutines run on the caller's executor.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "http/message.h"
#include "io/task.h"

namespace yoke::http {

struct Endpoint {
  std::string host = "127.0.0.1";  // Name or address.
  std::uint16_t port = 0;
  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

struct ClientRequest {
  Endpoint to;
  RequestHead head;  // Host, Content-Length and Connection are set by the client.
  std::string body{};
};

struct ClientTimeouts {
  std::chrono::milliseconds connect{5'000};
  // From the end of the request to the response's head: an engine's prefill lies in here.
  std::chrono::milliseconds head{60'000};
  // Between two pieces of the body.
  std::chrono::milliseconds idle{60'000};
};

// A response whose head has arrived. Owned by the caller, on the thread that made the request; to
// drop it closes the connection, which tells the server to stop its work.
class Response {
 public:
  ~Response();
  Response(const Response&) = delete;
  Response& operator=(const Response&) = delete;

  const ResponseHead& head() const;

  // The next piece of the body with the chunk framing taken off, as soon as some of it is there;
  // empty at the end. Valid until the next call. kPeerClosed if the connection ended too early,
  // kBadResponse for broken framing, kTimeout.
  io::Task<Result<std::string_view>> read();

  // From the next read() on, in place of ClientTimeouts::idle.
  void set_idle_timeout(std::chrono::milliseconds limit);

  // What is left of the body. kBadResponse if it is longer than `limit` bytes.
  io::Task<Result<std::string>> read_all(std::size_t limit);

 private:
  friend io::Task<Result<std::unique_ptr<Response>>> send(ClientRequest, ClientTimeouts);
  struct Impl;
  explicit Response(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Sends the request and returns when the response's head is there. kUnreachable, kPeerClosed,
// kBadResponse, kTimeout, or kCancelled when the calling coroutine is cancelled.
io::Task<Result<std::unique_ptr<Response>>> send(ClientRequest request, ClientTimeouts timeouts);

}  // namespace yoke::http
