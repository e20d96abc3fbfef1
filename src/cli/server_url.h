// The address of a running server as users write it. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "http/client.h"

namespace yoke::cli {

inline constexpr std::uint16_t kDefaultPort = 8642;
inline constexpr std::string_view kDefaultUrl = "http://127.0.0.1:8642";

struct ServerUrl {
  http::Endpoint endpoint;
  std::string prefix{};  // What stands before every path ("/yoke"); often empty.
  std::string text{};    // For messages, without user, password and query.
};

// "http://box:8642", "box:9000", "box" (port 8642), "[::1]:8642", "http://box/yoke"; a trailing
// "/v1" is dropped, since other clients want it. kInvalidArgument.
Result<ServerUrl> parse_server_url(std::string_view text);

}  // namespace yoke::cli
