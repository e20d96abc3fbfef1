// The heads of HTTP/1.1 messages as values. No I/O; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace yoke::http {

// Errors of this module; docs/errors.md explains each.
inline constexpr ErrorCode kBadRequest{"bad_request"};
inline constexpr ErrorCode kHeaderTooLarge{"header_too_large"};
inline constexpr ErrorCode kBodyTooLarge{"request_too_large"};
inline constexpr ErrorCode kPeerClosed{"peer_closed"};
inline constexpr ErrorCode kUnreachable{"unreachable"};
inline constexpr ErrorCode kBadResponse{"bad_response"};
inline constexpr ErrorCode kAddressInUse{"address_in_use"};

struct Header {
  std::string name;
  std::string value;
};

// In the order received; names compare without case.
class Headers {
 public:
  Headers() = default;
  Headers(std::initializer_list<Header> headers) : headers_(headers) {}

  // The first value of that name.
  std::optional<std::string_view> get(std::string_view name) const;
  // Replaces all of that name.
  void set(std::string_view name, std::string_view value);
  void add(std::string_view name, std::string_view value);
  void erase(std::string_view name);
  // True if a comma separated list of that name holds `token` (without case): "Connection: close".
  bool has_token(std::string_view name, std::string_view token) const;

  auto begin() const { return headers_.begin(); }
  auto end() const { return headers_.end(); }

 private:
  std::vector<Header> headers_;
};

struct RequestHead {
  std::string method = "GET";
  std::string target = "/";  // Path and query as sent.
  bool http_1_0 = false;
  Headers headers{};

  std::string_view path() const;  // Without the query, not decoded.
  // The decoded value of a query parameter, if present.
  std::optional<std::string> query(std::string_view name) const;
};

struct ResponseHead {
  int status = 200;
  Headers headers{};
};

// "Not Found" for 404; empty for an unknown status.
std::string_view reason_phrase(int status);

bool equals_ignoring_case(std::string_view a, std::string_view b);

}  // namespace yoke::http
