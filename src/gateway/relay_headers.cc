#include "gateway/relay_headers.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <span>
#include <string_view>

namespace yoke::gateway {
namespace {

// RFC 9110, 7.6.1: about one connection only. Whatever Connection names is left out too.
constexpr std::array<std::string_view, 8> kHopByHop{
    "Connection", "Keep-Alive", "Proxy-Connection",  "TE",
    "Trailer",    "Upgrade",    "Transfer-Encoding", "Expect"};
// Yoke's own affair: its keys, its CORS rules; and a coding that it could not look into.
constexpr std::array<std::string_view, 8> kNotForEngine{
    "Host",   "Authorization", "X-Api-Key",      "Cookie",
    "Origin", "Referer",       "Content-Length", "Accept-Encoding"};
constexpr std::array<std::string_view, 1> kNotForClient{"Server"};

http::Headers filtered(const http::Headers& headers,
                       std::initializer_list<bool (*)(std::string_view)> drop) {
  http::Headers kept;
  for (const http::Header& header : headers) {
    const bool dropped = std::ranges::any_of(drop, [&](auto test) { return test(header.name); }) ||
                         headers.has_token("Connection", header.name);
    if (!dropped) kept.add(header.name, header.value);
  }
  return kept;
}

bool in(std::span<const std::string_view> names, std::string_view name) {
  return std::ranges::any_of(
      names, [name](std::string_view known) { return http::equals_ignoring_case(known, name); });
}

bool is_hop_by_hop(std::string_view name) { return in(kHopByHop, name); }
bool is_not_for_engine(std::string_view name) { return in(kNotForEngine, name); }
bool is_not_for_client(std::string_view name) {
  constexpr std::string_view kCors = "Access-Control-";
  return in(kNotForClient, name) || http::equals_ignoring_case(name.substr(0, kCors.size()), kCors);
}

}  // namespace

http::Headers headers_for_engine(const http::Headers& from_client) {
  return filtered(from_client, {is_hop_by_hop, is_not_for_engine});
}

http::Headers headers_for_client(const http::Headers& from_engine) {
  return filtered(from_engine, {is_hop_by_hop, is_not_for_client});
}

}  // namespace yoke::gateway
