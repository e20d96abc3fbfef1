// One accepted connection of the server: reads requests, runs the handler, frames replies.
// Internal to src/http. Owned by the server's task for it; only on its context's thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <boost/asio/ip/tcp.hpp>

#include "http/message.h"
#include "http/server.h"
#include "io/task.h"

namespace yoke::http {

class Connection {
 public:
  // `options` and `handler` outlive the connection.
  Connection(boost::asio::ip::tcp::socket socket, const ServerOptions& options,
             const Handler& handler);
  ~Connection();

  // Serves requests until either side closes, a deadline passes or the task is cancelled.
  io::Task<void> run();

  // No further request is taken after the running one; an idle connection ends now.
  void finish();

  // The calls of Exchange.
  const RequestHead& request() const;
  io::Task<Result<std::string>> read_body(std::optional<std::uint64_t> max_bytes);
  io::Task<Result<void>> begin_reply(ResponseHead head);
  io::Task<Result<void>> write(std::string_view piece);
  io::Task<Result<void>> end_reply();
  io::Task<Result<void>> reply(ResponseHead head, std::string body);
  bool reply_begun() const;
  io::Task<void> client_gone();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace yoke::http
