#include "gateway/access.h"

#include <algorithm>
#include <optional>

#include <boost/asio/ip/address.hpp>
#include <openssl/crypto.h>

#include "gateway/api_error.h"

namespace yoke::gateway {
namespace {

// In constant time, so that the answer's timing says nothing about the key.
bool same_secret(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

bool carries_key(const http::RequestHead& request, std::string_view key) {
  constexpr std::string_view kBearer = "Bearer ";
  if (const auto header = request.headers.get("Authorization")) {
    if (header->size() > kBearer.size() &&
        http::equals_ignoring_case(header->substr(0, kBearer.size()), kBearer) &&
        same_secret(header->substr(kBearer.size()), key)) {
      return true;
    }
  }
  // What Anthropic's clients send.
  const auto header = request.headers.get("X-Api-Key");
  return header && same_secret(*header, key);
}

// The host of "host", "host:port" or "[address]:port".
std::string_view host_of(std::string_view authority) {
  if (authority.starts_with('[')) {
    const auto end = authority.find(']');
    return end == std::string_view::npos ? std::string_view() : authority.substr(1, end - 1);
  }
  return authority.substr(0, authority.find(':'));
}

bool is_localhost(std::string_view host) {
  constexpr std::string_view kLocalhost = "localhost";
  constexpr std::string_view kBelow = ".localhost";  // RFC 6761: always this machine.
  return http::equals_ignoring_case(host, kLocalhost) ||
         (host.size() > kBelow.size() &&
          http::equals_ignoring_case(host.substr(host.size() - kBelow.size()), kBelow) &&
          host.find('@') == std::string_view::npos);
}

std::optional<boost::asio::ip::address> address_of(std::string_view host) {
  boost::system::error_code error;
  auto address = boost::asio::ip::make_address(std::string(host), error);
  if (error) return std::nullopt;
  return address;
}

// "localhost", or an address: a name of somebody else's that points to this machine is neither.
bool is_local_or_address(std::string_view authority) {
  const std::string_view host = host_of(authority);
  return is_localhost(host) || address_of(host).has_value();
}

bool is_loopback_origin(std::string_view origin) {
  const auto scheme_end = origin.find("://");
  if (scheme_end == std::string_view::npos) return false;
  const std::string_view host = host_of(origin.substr(scheme_end + 3));
  const auto address = address_of(host);
  return is_localhost(host) || (address && address->is_loopback());
}

bool origin_is_allowed(const AccessRules& rules, std::string_view origin) {
  return is_loopback_origin(origin) ||
         std::ranges::any_of(rules.allowed_origins, [origin](const std::string& allowed) {
           return allowed == "*" || allowed == origin;
         });
}

}  // namespace

Result<void> check_access(const AccessRules& rules, const http::RequestHead& request) {
  if (const auto origin = request.headers.get("Origin")) {
    if (!origin_is_allowed(rules, *origin)) {
      return fail(kOriginNotAllowed, "Web pages of this origin may not use this server.",
                  "Add the origin to allowed_origins in [server] if you trust it.");
    }
  }
  if (rules.api_key.empty()) {
    // Against DNS rebinding: a page whose own name suddenly means 127.0.0.1.
    const auto host = request.headers.get("Host");
    if (host && !is_local_or_address(*host)) {
      return fail(kHostNotAllowed, "This server answers only to localhost and to addresses.",
                  "Use http://localhost or the address, or set an api_key in [server].");
    }
    return {};
  }
  // A browser's preflight request never carries a key, and learns nothing without one.
  if (request.method == "OPTIONS") return {};
  if (!carries_key(request, rules.api_key)) {
    return fail(kInvalidApiKey, "The API key is missing or wrong.",
                "Send it as `Authorization: Bearer KEY`.");
  }
  return {};
}

std::string allowed_origin(const AccessRules& rules, const http::RequestHead& request) {
  const auto origin = request.headers.get("Origin");
  return origin && origin_is_allowed(rules, *origin) ? std::string(*origin) : std::string();
}

}  // namespace yoke::gateway
