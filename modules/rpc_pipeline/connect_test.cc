#include "rpc_pipeline/connect.h"

#include <cstring>
#include <fcntl.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rpc_pipeline/client_test_support.h"

namespace rpc_pipeline {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Clock = std::chrono::steady_clock;

/// The error; empty if it connected, and then closed again.
std::string error_of(const std::string& endpoint, std::chrono::milliseconds timeout = 20s) {
  const Connected connected = connect_worker(endpoint, timeout);
  if (connected.fd >= 0) ::close(connected.fd);
  EXPECT_EQ(connected.fd < 0, !connected.error.empty());
  return connected.error;
}

std::string greeting(std::uint64_t size, std::size_t bytes) {
  std::string text(sizeof(size) + bytes, '\x07');
  std::memcpy(text.data(), &size, sizeof(size));
  return text;
}

class ConnectTest : public ::testing::Test {
  const Watchdog watchdog_;
};

TEST_F(ConnectTest, ShakesHands) {
  const FakeWorker worker;
  const Connected connected = connect_worker(worker.address(), 20s);
  ASSERT_GE(connected.fd, 0) << connected.error;
  EXPECT_NE(::fcntl(connected.fd, F_GETFL) & O_NONBLOCK, 0);
  EXPECT_NE(::fcntl(connected.fd, F_GETFD) & FD_CLOEXEC, 0);
  ::close(connected.fd);
  const auto served = worker.served();
  ASSERT_EQ(served.size(), 1U);
  EXPECT_EQ(served[0].command, Command::kHello);
  EXPECT_EQ(served[0].size, sizeof(HelloRequest));
}

TEST_F(ConnectTest, ShakesHandsOverIpv6) {
  const FakeWorker worker(FakeWorker::Options{.ipv6 = true});
  if (!worker.violation().empty()) GTEST_SKIP() << "no IPv6 here";
  EXPECT_EQ(error_of(worker.address()), "");
}

TEST_F(ConnectTest, TakesAnAnswerByteByByte) {
  const FakeWorker worker(FakeWorker::Options{.answer_piece = 1, .pause = 1ms});
  EXPECT_EQ(error_of(worker.address()), "");
}

TEST_F(ConnectTest, SaysThatNobodyListens) {
  std::string address;
  {
    const FakeWorker worker;
    address = worker.address();
  }
  EXPECT_EQ(error_of(address), "Connection refused");
}

TEST_F(ConnectTest, KeepsItsDeadlineWithASilentWorker) {
  for (const bool accepts : {true, false}) {
    const FakeWorker worker(FakeWorker::Options{.greets = false, .accepts = accepts});
    const auto begin = Clock::now();
    EXPECT_EQ(error_of(worker.address(), 200ms), "no answer in 1 s: does it serve another client?");
    EXPECT_GE(Clock::now() - begin, 190ms);
    EXPECT_LT(Clock::now() - begin, 10s);
  }
}

// Bytes that come one by one don't prolong it.
TEST_F(ConnectTest, KeepsItsDeadlineWithASlowWorker) {
  const FakeWorker worker(FakeWorker::Options{.answer_piece = 1, .pause = 50ms});
  const auto begin = Clock::now();
  EXPECT_THAT(error_of(worker.address(), 300ms), StartsWith("no answer in 1 s"));
  EXPECT_LT(Clock::now() - begin, 10s);
}

TEST_F(ConnectTest, SaysThatTheWorkerIsAnotherRelease) {
  const FakeWorker worker(FakeWorker::Options{.hello = {6, 1, 0, 0, {}}});
  EXPECT_EQ(error_of(worker.address()), "it speaks protocol 6.1, this client 7.0");
}

TEST_F(ConnectTest, SaysThatTheWorkerHungUp) {
  for (const auto fault : {FakeWorker::Fault::kClose, FakeWorker::Fault::kCloseInAnswer}) {
    FakeWorker worker;
    worker.fail_at(Command::kHello, fault);
    EXPECT_EQ(error_of(worker.address()), "it closed the connection at the handshake");
  }
}

TEST_F(ConnectTest, RefusesGarbage) {
  const FakeWorker http(FakeWorker::Options{.greeting = "HTTP/1.1 400 Bad Request\r\n\r\n"});
  EXPECT_THAT(error_of(http.address()), StartsWith("reply of "));
  const FakeWorker shorter(FakeWorker::Options{.greeting = greeting(27, 27)});
  EXPECT_EQ(error_of(shorter.address()), "reply of 27 bytes to HELLO where 28 were expected");
}

TEST_F(ConnectTest, RefusesWhatIsNoEndpoint) {
  for (const char* endpoint :
       {"", ":", "127.0.0.1", "127.0.0.1:", ":50052", "127.0.0.1:x", "127.0.0.1:-1", "127.0.0.1:0",
        "127.0.0.1:65536", "127.0.0.1: 80", "127.0.0.1:80x"}) {
    EXPECT_EQ(error_of(endpoint), "an endpoint is HOST:PORT") << endpoint;
  }
}

// 65536 + PORT must not end up at PORT.
TEST_F(ConnectTest, APortThatIsTooLargeIsNotCutOff) {
  const FakeWorker worker;
  const int port = std::stoi(worker.address().substr(worker.address().rfind(':') + 1));
  EXPECT_NE(error_of("127.0.0.1:" + std::to_string(port + 65536), 1s), "");
}

TEST_F(ConnectTest, TheClientSaysWhyAWorkerCannotBeUsed) {
  const FakeWorker old(FakeWorker::Options{.hello = {6, 1, 0, 0, {}}});
  Settings settings;
  settings.names = {{old.address(), "desk-2"}};
  Client client(settings);
  EXPECT_EQ(client.loop().endpoint(old.address()), nullptr);
  EXPECT_EQ(client.loop().endpoint("nonsense"), nullptr);
  EXPECT_THAT(client.lines(),
              ElementsAre("cannot use worker desk-2 (" + old.address() +
                              "): it speaks protocol 6.1, this client 7.0",
                          "cannot use worker nonsense (nonsense): an endpoint is HOST:PORT"));
  EXPECT_EQ(client.loop().failure(), "");
}

}  // namespace
}  // namespace rpc_pipeline
