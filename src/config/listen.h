// The address a server listens on. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace yoke::config {

struct ListenAddress {
  std::string host;  // An IP address; IPv6 without brackets.
  std::uint16_t port = 0;
  friend bool operator==(const ListenAddress&, const ListenAddress&) = default;
};

// "127.0.0.1:8642", "[::1]:8642", "localhost:8642" (which is 127.0.0.1); port 0 is any free one.
// Names are not looked up. kInvalidArgument.
Result<ListenAddress> parse_listen(std::string_view text);

// Whether only this machine can reach `host`, an IP address. False for what is none.
bool is_loopback(const std::string& host);

}  // namespace yoke::config
