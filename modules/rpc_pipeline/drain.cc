#include "rpc_pipeline/drain.h"

#include <array>
#include <cerrno>
#include <cstddef>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

namespace rpc_pipeline {
namespace {

constexpr int kLookMs = 100;

// False when nothing more comes.
bool drop_what_came(int fd) {
  std::array<std::byte, std::size_t{64} << 10> dropped;
  const ssize_t size = ::recv(fd, dropped.data(), dropped.size(), MSG_DONTWAIT);
  return size > 0 || (size < 0 && (errno == EAGAIN || errno == EINTR));
}

}  // namespace

void drain(std::vector<int> sockets, std::chrono::milliseconds timeout,
           const std::function<bool()>& stop) {
  const auto end = std::chrono::steady_clock::now() + timeout;
  std::vector<pollfd> open;
  for (const int fd : sockets) {
    ::shutdown(fd, SHUT_WR);
    open.push_back({fd, POLLIN, 0});
  }
  while (!open.empty() && !stop() && std::chrono::steady_clock::now() < end) {
    ::poll(open.data(), open.size(), kLookMs);
    std::erase_if(open, [](const pollfd& socket) {
      if (socket.revents == 0 || drop_what_came(socket.fd)) return false;
      ::close(socket.fd);
      return true;
    });
  }
  for (const pollfd& socket : open) ::close(socket.fd);
}

}  // namespace rpc_pipeline
