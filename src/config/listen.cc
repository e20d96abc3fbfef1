#include "config/listen.h"

#include <arpa/inet.h>
#include <charconv>
#include <optional>

#include <fmt/format.h>

namespace yoke::config {
namespace {

bool is_ipv4(const std::string& host) {
  in_addr address{};
  return ::inet_pton(AF_INET, host.c_str(), &address) == 1;
}

bool is_ipv6(const std::string& host) {
  in6_addr address{};
  return ::inet_pton(AF_INET6, host.c_str(), &address) == 1;
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return port;
}

}  // namespace

Result<ListenAddress> parse_listen(std::string_view text) {
  const auto refuse = [&] {
    return fail(kInvalidArgument, fmt::format("'{}' is no address to listen on.", text),
                "Write an IP address and a port, such as 127.0.0.1:8642 or [::1]:8642.");
  };
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return refuse();
  const std::optional<std::uint16_t> port = parse_port(text.substr(colon + 1));
  if (!port) return refuse();

  std::string host(text.substr(0, colon));
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
    if (!is_ipv6(host)) return refuse();
    return ListenAddress{host, *port};
  }
  if (host == "localhost") host = "127.0.0.1";
  if (!is_ipv4(host)) return refuse();
  return ListenAddress{host, *port};
}

bool is_loopback(const std::string& host) {
  in_addr v4{};
  if (::inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6{};
  if (::inet_pton(AF_INET6, host.c_str(), &v6) != 1) return false;
  return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
}

}  // namespace yoke::config
