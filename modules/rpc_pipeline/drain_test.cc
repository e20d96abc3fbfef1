#include "rpc_pipeline/drain.h"

#include <array>
#include <chrono>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>

namespace rpc_pipeline {
namespace {

using namespace std::chrono_literals;

struct Pair {
  int client = -1;
  int worker = -1;
};

Pair make_pair_of_sockets() {
  std::array<int, 2> ends{};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), 0);
  return {ends[0], ends[1]};
}

const auto kNever = [] { return false; };

// As a worker does that still has answers to give: it writes them, then finds its client gone.
TEST(DrainTest, AWorkerGetsRidOfItsAnswers) {
  const Pair first = make_pair_of_sockets();
  const Pair second = make_pair_of_sockets();
  constexpr std::size_t kAnswer = 8 << 20;
  std::array<std::size_t, 2> written{};
  const auto answer = [&written](int fd, std::size_t index) {
    const std::vector<char> data(kAnswer);
    for (std::size_t sent = 0; sent < kAnswer;) {
      const ssize_t count = ::send(fd, data.data() + sent, kAnswer - sent, MSG_NOSIGNAL);
      if (count <= 0) break;
      sent += static_cast<std::size_t>(count);
      written[index] = sent;
    }
    char byte = 0;
    EXPECT_EQ(::recv(fd, &byte, 1, 0), 0);  // The client says nothing more.
    ::close(fd);
  };
  std::jthread one(answer, first.worker, 0);
  std::jthread two(answer, second.worker, 1);
  drain({first.client, second.client}, 60s, kNever);
  one.join();
  two.join();
  EXPECT_EQ(written[0], kAnswer);
  EXPECT_EQ(written[1], kAnswer);
}

TEST(DrainTest, EndsInTimeWithAWorkerThatStays) {
  const Pair pair = make_pair_of_sockets();
  const auto begin = std::chrono::steady_clock::now();
  drain({pair.client}, 50ms, kNever);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 30s);
  EXPECT_EQ(::send(pair.worker, "x", 1, MSG_NOSIGNAL), -1);  // It is closed.
  ::close(pair.worker);
}

TEST(DrainTest, StopsWhenItIsTold) {
  const Pair pair = make_pair_of_sockets();
  int asked = 0;
  drain({pair.client}, 1h, [&asked] { return ++asked > 2; });
  EXPECT_EQ(asked, 3);
  ::close(pair.worker);
}

}  // namespace
}  // namespace rpc_pipeline
