// One accepted socket: bounded reads, whole writes, and waits that end when the client goes away.
// Owned and used by one connection thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

namespace fake_engine {

inline constexpr int64_t kNoDeadline = INT64_MAX;

enum class Wait {
  kReady,       // What was waited for is there.
  kElapsed,     // The deadline came first.
  kClientGone,  // The client closed or reset the connection (or its sending half).
  kStopping,    // The process is stopping.
};

class Connection {
 public:
  // Takes `fd` over. `stop_fd` becomes readable when the process stops; `bytes_sent` counts.
  Connection(int fd, int stop_fd, std::atomic<uint64_t>& bytes_sent);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Waits for bytes to read and appends them to `into`. `deadline_ns` is on CLOCK_MONOTONIC.
  Wait read_some(std::string& into, int64_t deadline_ns);

  // Sends all of `bytes`, however slowly the client reads. kReady when the kernel took them.
  Wait send_all(std::string_view bytes);

  // Sleeps until the deadline or until `wake_fd` (if not negative) becomes readable.
  Wait wait_until(int64_t deadline_ns, int wake_fd = -1);

  // Closes in a way that lets the client read what was sent, though it may still be sending.
  void close_gently();

  // Ends the sending half and waits a bounded time for the client to close.
  void half_close();

  // Closes at once with a TCP reset.
  void reset();

 private:
  // `events` is what to wait for on the socket beside the client's end.
  Wait poll_until(int64_t deadline_ns, short events, int wake_fd);
  void discard_input_until(int64_t deadline_ns);

  int fd_;
  const int stop_fd_;
  std::atomic<uint64_t>& bytes_sent_;
};

}  // namespace fake_engine
