#include "fake_engine/connection.h"

#include <algorithm>
#include <cerrno>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fake_engine/clock.h"

namespace fake_engine {
namespace {

constexpr size_t kReadBytes = 64 * 1024;
constexpr int64_t kGentleCloseNs = 2 * kNsPerS;
constexpr int64_t kHalfCloseNs = 30 * kNsPerS;

bool would_block() { return errno == EAGAIN || errno == EWOULDBLOCK; }

}  // namespace

Connection::Connection(int fd, int stop_fd, std::atomic<uint64_t>& bytes_sent)
    : fd_(fd), stop_fd_(stop_fd), bytes_sent_(bytes_sent) {}

Connection::~Connection() {
  if (fd_ >= 0) close(fd_);
}

Wait Connection::read_some(std::string& into, int64_t deadline_ns) {
  for (;;) {
    char buffer[kReadBytes];
    const ssize_t got = recv(fd_, buffer, sizeof buffer, MSG_DONTWAIT);
    if (got > 0) {
      into.append(buffer, static_cast<size_t>(got));
      return Wait::kReady;
    }
    if (got == 0 || (!would_block() && errno != EINTR)) return Wait::kClientGone;
    const Wait outcome = poll_until(deadline_ns, POLLIN, -1);
    if (outcome == Wait::kElapsed || outcome == Wait::kStopping) return outcome;
  }
}

Wait Connection::send_all(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      bytes_sent_ += static_cast<uint64_t>(sent);
      bytes.remove_prefix(static_cast<size_t>(sent));
      continue;
    }
    if (sent < 0 && !would_block() && errno != EINTR) return Wait::kClientGone;
    const Wait outcome = poll_until(kNoDeadline, POLLOUT, -1);
    if (outcome != Wait::kReady) return outcome;
  }
  return Wait::kReady;
}

Wait Connection::wait_until(int64_t deadline_ns, int wake_fd) {
  return poll_until(deadline_ns, 0, wake_fd);
}

Wait Connection::poll_until(int64_t deadline_ns, short events, int wake_fd) {
  for (;;) {
    pollfd fds[] = {{fd_, static_cast<short>(events | POLLRDHUP), 0},
                    {stop_fd_, POLLIN, 0},
                    {wake_fd, POLLIN, 0}};
    timespec timeout{};
    if (deadline_ns != kNoDeadline) {
      const int64_t left = std::max<int64_t>(deadline_ns - monotonic_ns(), 0);
      timeout = {left / kNsPerS, left % kNsPerS};
    }
    const int ready = ppoll(fds, 3, deadline_ns == kNoDeadline ? nullptr : &timeout, nullptr);
    if (ready == 0) return Wait::kElapsed;
    if (ready < 0) continue;  // EINTR: the deadline still holds.
    if (fds[1].revents) return Wait::kStopping;
    if (fds[0].revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) return Wait::kClientGone;
    return Wait::kReady;
  }
}

void Connection::discard_input_until(int64_t deadline_ns) {
  std::string discarded;
  while (read_some(discarded, deadline_ns) == Wait::kReady) discarded.clear();
}

void Connection::close_gently() {
  // Closing with unread input sends a reset, which would take the reply away from the client.
  shutdown(fd_, SHUT_WR);
  discard_input_until(monotonic_ns() + kGentleCloseNs);
}

void Connection::half_close() {
  shutdown(fd_, SHUT_WR);
  discard_input_until(monotonic_ns() + kHalfCloseNs);
}

void Connection::reset() {
  const linger at_once{1, 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  close(fd_);
  fd_ = -1;
}

}  // namespace fake_engine
