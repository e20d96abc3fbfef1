#include "rpc_pipeline/connect.h"

#include <cerrno>
#include <charconv>
#include <cstring>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <optional>
#include <poll.h>
#include <span>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "rpc_pipeline/reply_reader.h"
#include "rpc_pipeline/resolve.h"

namespace rpc_pipeline {
namespace {

using Clock = std::chrono::steady_clock;

std::string text_of(int error) { return std::generic_category().message(error); }

struct Target {
  std::string host;
  std::string port;
};

std::optional<Target> parse(const std::string& endpoint) {
  const std::size_t colon = endpoint.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == endpoint.size()) return std::nullopt;
  std::string host = endpoint.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  std::string port = endpoint.substr(colon + 1);
  // getaddrinfo() takes any number, and cuts it off.
  unsigned number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (error != std::errc() || end != port.data() + port.size() || number == 0 || number > 65535)
    return std::nullopt;
  return Target{std::move(host), std::move(port)};
}

// False when the deadline has passed first.
bool wait_for(int fd, short events, Clock::time_point deadline) {
  while (true) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) return false;
    pollfd poll_fd{fd, events, 0};
    const int ready = ::poll(&poll_fd, 1, static_cast<int>(left.count()) + 1);
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

std::string connect_to(int fd, const addrinfo& address, Clock::time_point deadline) {
  if (::connect(fd, address.ai_addr, address.ai_addrlen) == 0) return {};
  if (errno != EINPROGRESS) return text_of(errno);
  if (!wait_for(fd, POLLOUT, deadline)) return "no answer to the connection";
  int error = 0;
  socklen_t size = sizeof(error);
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error == 0 ? std::string() : text_of(error);
}

void set_options(int fd) {
  const auto set = [fd](int level, int name, int value) {
    ::setsockopt(fd, level, name, &value, sizeof(value));
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  // A machine that lost power is noticed while nothing is owed, too.
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 10);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
}

Connected open_socket(const Target& target, Clock::time_point deadline) {
  const Resolved found = resolve(target.host, target.port, deadline);
  if (!found.addresses) return {-1, found.error};
  Connected result{-1, "no address"};
  for (const addrinfo* address = found.addresses.get(); address != nullptr;
       address = address->ai_next) {
    const int fd = ::socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
      result.error = text_of(errno);
      continue;
    }
    result.error = connect_to(fd, *address, deadline);
    if (result.error.empty()) {
      set_options(fd);
      return {fd, {}};
    }
    ::close(fd);
  }
  return result;
}

std::string send_hello(int fd) {
  std::byte request[kRequestHeadSize + sizeof(HelloRequest)] = {};
  const std::uint64_t size = sizeof(HelloRequest);
  request[0] = static_cast<std::byte>(Command::kHello);
  std::memcpy(request + 1, &size, sizeof(size));
  // A fresh socket's buffer takes these few bytes at once.
  return ::send(fd, request, sizeof(request), MSG_NOSIGNAL) == ssize_t{sizeof(request)}
             ? ""
             : text_of(errno);
}

std::string read_hello(int fd, HelloReply& reply, Clock::time_point deadline,
                       const std::string& late) {
  ReplyReader reader;
  reader.expect(Command::kHello, sizeof(reply));
  std::span<std::byte> body = std::as_writable_bytes(std::span(&reply, 1));
  std::byte head[kReplyHeadSize];
  while (reader.due() > 0) {
    if (!wait_for(fd, POLLIN, deadline)) return late;
    const bool in_head = reader.wants() == ReplyReader::Wants::kHead;
    const auto left = static_cast<std::size_t>(reader.remaining());
    const ssize_t count = ::recv(fd, in_head ? head : body.data(), left, 0);
    if (count == 0) return "it closed the connection at the handshake";
    if (count < 0 && errno != EAGAIN && errno != EINTR) return text_of(errno);
    if (count < 0) continue;
    if (in_head) {
      if (auto error = reader.accept_head(std::span(head, static_cast<std::size_t>(count))))
        return *error;
    } else {
      body = body.subspan(static_cast<std::size_t>(count));
      reader.accept_body(static_cast<std::uint64_t>(count));
    }
  }
  return check(reply).value_or("");
}

}  // namespace

Connected connect_worker(const std::string& endpoint, std::chrono::milliseconds timeout) {
  const auto target = parse(endpoint);
  if (!target) return {-1, "an endpoint is HOST:PORT"};
  const auto deadline = Clock::now() + timeout;
  Connected connected = open_socket(*target, deadline);
  if (connected.fd < 0) return connected;
  const std::string late = "no answer in " + std::to_string((timeout.count() + 999) / 1000) +
                           " s: does it serve another client?";
  HelloReply reply{};
  std::string error = send_hello(connected.fd);
  if (error.empty()) error = read_hello(connected.fd, reply, deadline, late);
  if (error.empty()) return connected;
  ::close(connected.fd);
  return {-1, std::move(error)};
}

}  // namespace rpc_pipeline
