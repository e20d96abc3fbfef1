#include "cli/server_url.h"

#include <boost/url/parse.hpp>
#include <boost/url/url_view.hpp>
#include <fmt/format.h>

namespace yoke::cli {
namespace {

tl::unexpected<Error> invalid(std::string_view text, std::string_view why) {
  return fail(kInvalidArgument, fmt::format("'{}' is no server address: {}.", text, why),
              fmt::format("Write it like {}.", kDefaultUrl));
}

std::string prefix_of(std::string path) {
  const auto drop_slashes = [&] { path.erase(path.find_last_not_of('/') + 1); };
  drop_slashes();
  if (path.ends_with("/v1")) path.resize(path.size() - 3);
  drop_slashes();
  return path;
}

}  // namespace

Result<ServerUrl> parse_server_url(std::string_view text) {
  const bool has_scheme = text.find("://") != std::string_view::npos;
  const std::string full = has_scheme ? std::string(text) : "http://" + std::string(text);
  const auto parsed = boost::urls::parse_uri(full);
  if (!parsed) return invalid(text, "it does not have the form of one");
  const boost::urls::url_view url = *parsed;
  if (url.scheme_id() != boost::urls::scheme::http)
    return invalid(text, "only http:// is spoken here");
  if (url.has_userinfo()) return invalid(text, "a user or password in it is not used");

  ServerUrl server;
  server.endpoint.host = url.host_address();
  if (server.endpoint.host.empty()) return invalid(text, "the host is missing");
  if (url.has_port() && url.port_number() == 0) return invalid(text, "the port is out of range");
  if (url.has_port()) {
    server.endpoint.port = url.port_number();
  } else {
    server.endpoint.port = has_scheme ? 80 : kDefaultPort;
  }
  const auto path = url.encoded_path();
  server.prefix = prefix_of(std::string(path.data(), path.size()));
  const auto host = url.encoded_host();
  server.text = fmt::format("http://{}:{}{}", std::string_view(host.data(), host.size()),
                            server.endpoint.port, server.prefix);
  return server;
}

}  // namespace yoke::cli
