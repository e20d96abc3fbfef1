// Talks to a running server and blocks until the answer is there, the deadline has passed or Ctrl-C
// was pressed. Owned by a command; main thread only.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include <boost/json/value.hpp>

#include "base/result.h"
#include "cli/interrupts.h"
#include "cli/server_url.h"
#include "http/client.h"
#include "http/sse.h"

namespace yoke::cli {

// How the user names the server.
struct ConnectOptions {
  std::string url{};           // Empty: $YOKE_URL, or the default address.
  std::string api_key_file{};  // Empty: $YOKE_API_KEY, or no key.
};

struct Call {
  std::string method = "GET";
  std::string target;  // Path and query.
  std::string body{};  // JSON.
  http::ClientTimeouts timeouts{};
};

struct EventHandlers {
  // An error ends the stream and is what stream() returns.
  std::function<Result<void>(const http::SseEvent&)> on_event;
  // Called about twice a second, also while nothing comes; may be empty.
  std::function<void()> on_tick{};
};

class ServerClient {
 public:
  // `interrupts` may be null and must outlive the client. kInvalidArgument, kIo.
  static Result<ServerClient> create(const ConnectOptions& options, const Interrupts* interrupts);
  ServerClient(ServerUrl url, std::string api_key, const Interrupts* interrupts);

  const std::string& url() const { return url_.text; }

  // The body of a reply with status 200. kUnreachable, kCancelled after Ctrl-C, what
  // error_of_reply() makes of an error status, and what http::send reports. `on_tick`: as in
  // EventHandlers.
  Result<std::string> fetch(Call call, std::function<void()> on_tick = {}) const;
  Result<boost::json::value> fetch_json(Call call) const;

  // A reply of server-sent events, until it ends.
  Result<void> stream(Call call, EventHandlers handlers) const;

 private:
  http::ClientRequest request(Call& call) const;
  Error explain(Error error) const;

  ServerUrl url_;
  std::string api_key_;
  const Interrupts* interrupts_;
};

// `text` for use as a value in a query.
std::string encode_query(std::string_view text);

}  // namespace yoke::cli
