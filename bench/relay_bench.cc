// Reads many streams of the fake engine at once, from it or from Yoke, and prints how long each
// token was under way: one line of JSON on the whole, then one line of nanoseconds per token. One
// thread with epoll, so that the reader costs little beside what it measures.
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <netinet/tcp.h>
#include <stdexcept>
#include <string>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>
#include <vector>

#include "stream_reader.h"

namespace {

constexpr std::int64_t kNsPerS = 1'000'000'000;
// Beyond the time that the tokens take.
constexpr std::int64_t kGraceNs = 20 * kNsPerS;

struct Options {
  std::uint16_t port = 0;
  std::string model;
  std::size_t streams = 0;
  std::int64_t tokens = 0;
  std::int64_t tokens_per_s = 0;
};

struct Stream {
  Stream(int socket, std::int64_t tokens) : fd(socket), reader(tokens) {}
  int fd;
  bench::StreamReader reader;
};

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

std::int64_t now_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * kNsPerS + time.tv_nsec;
}

int connect_to(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    fail("connect");
  }
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

std::string request(const Options& options) {
  const std::string fake = "tokens=" + std::to_string(options.tokens) +
                           ";tokens_per_s=" + std::to_string(options.tokens_per_s) +
                           ";timestamps=1";
  const std::string body = R"({"model":")" + options.model +
                           R"(","stream":true,"messages":[{"role":"user","content":"Hello"}],)" +
                           R"("fake":")" + fake + "\"}";
  return "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
         "Content-Type: application/json\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}

class Round {
 public:
  explicit Round(const Options& options)
      : options_(options), request_(request(options)), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    if (epoll_ < 0) fail("epoll_create1");
    streams_.reserve(options.streams);
    for (std::size_t i = 0; i < options.streams; ++i) {
      streams_.emplace_back(connect_to(options.port), options.tokens);
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.u64 = i;
      if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, streams_[i].fd, &event) != 0) fail("epoll_ctl");
    }
    latencies_ns_.reserve(options.streams * static_cast<std::size_t>(options.tokens));
  }

  // The streams begin spread over one token's time, as those of independent clients would.
  void run() {
    const std::int64_t start = now_ns();
    const std::int64_t token_ns = kNsPerS / options_.tokens_per_s;
    const std::int64_t deadline = start + options_.tokens * token_ns + kGraceNs;
    const auto streams = static_cast<std::int64_t>(streams_.size());
    std::size_t begun = 0;
    while (ended_ < streams_.size()) {
      const std::int64_t due = begun < streams_.size()
                                   ? start + static_cast<std::int64_t>(begun) * token_ns / streams
                                   : deadline;
      const std::int64_t now = now_ns();
      if (now < due) {
        wait(due - now);
      } else if (begun == streams_.size()) {
        return;  // Too late; what is missing counts as lost.
      } else {
        send_request(streams_[begun++]);
      }
    }
  }

  void print() const {
    std::int64_t lost = 0;
    std::size_t broken = 0;
    for (const Stream& stream : streams_) {
      lost += stream.reader.lost();
      broken += stream.reader.intact() ? 0 : 1;
    }
    std::printf("{\"chunks\": %zu, \"lost\": %lld, \"broken_streams\": %zu}\n",
                latencies_ns_.size(), static_cast<long long>(lost), broken);
    for (const std::int64_t latency : latencies_ns_) {
      std::printf("%lld\n", static_cast<long long>(latency));
    }
  }

 private:
  void send_request(const Stream& stream) {
    const ssize_t sent = ::send(stream.fd, request_.data(), request_.size(), MSG_NOSIGNAL);
    if (sent != static_cast<ssize_t>(request_.size())) fail("send");
  }

  void wait(std::int64_t limit_ns) {
    std::array<epoll_event, 64> events;
    const timespec limit{limit_ns / kNsPerS, limit_ns % kNsPerS};
    const int count =
        ::epoll_pwait2(epoll_, events.data(), static_cast<int>(events.size()), &limit, nullptr);
    if (count < 0 && errno != EINTR) fail("epoll_pwait2");
    for (int i = 0; i < count; ++i) read(streams_[events[static_cast<std::size_t>(i)].data.u64]);
  }

  void read(Stream& stream) {
    const ssize_t got = ::recv(stream.fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got > 0) {
      stream.reader.feed({buffer_.data(), static_cast<std::size_t>(got)}, now_ns(), latencies_ns_);
      if (!stream.reader.ended()) return;
    }
    ::close(stream.fd);
    ++ended_;
  }

  const Options& options_;
  const std::string request_;
  const int epoll_;
  std::vector<Stream> streams_;
  std::vector<std::int64_t> latencies_ns_;
  std::array<char, 1 << 16> buffer_;
  std::size_t ended_ = 0;
};

template <class T>
T positive(const char* text) {
  T value{};
  const char* end = text + std::strlen(text);
  const auto parsed = std::from_chars(text, end, value);
  if (parsed.ec != std::errc{} || parsed.ptr != end || value <= 0) {
    throw std::invalid_argument(std::string(text) + " is no number above 0");
  }
  return value;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "usage: relay_bench PORT MODEL STREAMS TOKENS TOKENS_PER_S\n");
    return 2;
  }
  try {
    const Options options{positive<std::uint16_t>(argv[1]), argv[2], positive<std::size_t>(argv[3]),
                          positive<std::int64_t>(argv[4]), positive<std::int64_t>(argv[5])};
    Round round(options);
    round.run();
    round.print();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "relay_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}
