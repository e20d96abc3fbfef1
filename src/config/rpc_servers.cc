#include "config/rpc_servers.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>

#include <fmt/format.h>

#include "config/listen.h"

namespace yoke::config {
namespace {

constexpr std::size_t kMaxNameLength = 64;

bool is_worker_name(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
           c == '_' || c == '-';
  };
  return !name.empty() && name.size() <= kMaxNameLength && std::ranges::all_of(name, allowed);
}

// 1 to 65535.
std::optional<std::uint16_t> parse_port(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return whole && port > 0 ? std::optional(port) : std::nullopt;
}

tl::unexpected<Error> not_here(std::string_view host, std::uint16_t port) {
  return fail(kInvalidArgument,
              fmt::format("'{}' is not 127.0.0.1, and the protocol of RPC servers has neither keys "
                          "nor encryption.",
                          host),
              fmt::format("Bring its port here by a tunnel, as `ssh -N -L {0}:127.0.0.1:{0} {1}` "
                          "does, and write \"127.0.0.1:{0}\".",
                          port, host.empty() ? "HOST" : host));
}

// The protocol is spoken over IPv4 alone.
Result<std::string> parse_endpoint(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  const auto port =
      colon == std::string_view::npos ? std::nullopt : parse_port(text.substr(colon + 1));
  if (!port) {
    return fail(kInvalidArgument, fmt::format("'{}' is no address of an RPC server.", text),
                "Write 127.0.0.1 and its port, such as \"127.0.0.1:50052\", after a name if you "
                "like: \"desk-2=127.0.0.1:50052\".");
  }
  const auto address = parse_listen(text);
  const bool here =
      address && is_loopback(address->host) && address->host.find(':') == std::string::npos;
  if (!here) return not_here(text.substr(0, colon), *port);
  return fmt::format("{}:{}", address->host, address->port);
}

Result<RpcServer> parse_one(std::string_view text) {
  const std::size_t equals = text.find('=');
  const bool named = equals != std::string_view::npos;
  YOKE_TRY(std::string endpoint, parse_endpoint(named ? text.substr(equals + 1) : text));
  if (!named) return RpcServer{endpoint, endpoint};
  const std::string_view name = text.substr(0, equals);
  if (!is_worker_name(name)) {
    return fail(kInvalidArgument, fmt::format("'{}' is no name for an RPC server.", name),
                fmt::format("Use letters, digits and . _ -, at most {} of them.", kMaxNameLength));
  }
  return RpcServer{std::move(endpoint), std::string(name)};
}

}  // namespace

std::string_view name_of(RpcClient client) {
  switch (client) {
    case RpcClient::kPipelined:
      return "pipelined";
    case RpcClient::kStock:
      return "stock";
  }
  return "unknown";
}

Result<std::vector<RpcServer>> parse_rpc_servers(std::span<const std::string> texts) {
  if (texts.size() > kMaxRpcServers) {
    return fail(kInvalidArgument, fmt::format("There are {} RPC servers.", texts.size()),
                fmt::format("llama.cpp takes {} at most.", kMaxRpcServers));
  }
  std::vector<RpcServer> servers;
  for (const std::string& text : texts) {
    YOKE_TRY(RpcServer server, parse_one(text));
    for (const RpcServer& other : servers) {
      if (other.endpoint != server.endpoint && other.name != server.name) continue;
      return fail(kInvalidArgument, fmt::format("'{}' and '{}' are the same.", other.name, text),
                  "Name every RPC server once: it serves one client at a time.");
    }
    servers.push_back(std::move(server));
  }
  return servers;
}

}  // namespace yoke::config
