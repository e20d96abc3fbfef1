#include "rpc_pipeline/resolve.h"

#include <future>
#include <netinet/in.h>
#include <thread>

#include <gtest/gtest.h>

#include "rpc_pipeline/watchdog_test_support.h"

namespace rpc_pipeline {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

class ResolveTest : public ::testing::Test {
  const Watchdog watchdog_;
};

TEST_F(ResolveTest, NumbersNeedNoTime) {
  const Resolved four = resolve("127.0.0.1", "50052", Clock::now());
  ASSERT_NE(four.addresses, nullptr) << four.error;
  EXPECT_EQ(four.addresses->ai_family, AF_INET);
  EXPECT_EQ(reinterpret_cast<const sockaddr_in*>(four.addresses->ai_addr)->sin_port, htons(50052));
  const Resolved six = resolve("::1", "50052", Clock::now());
  ASSERT_NE(six.addresses, nullptr) << six.error;
  EXPECT_EQ(six.addresses->ai_family, AF_INET6);
}

TEST_F(ResolveTest, FindsAName) {
  const Resolved found = resolve("localhost", "50052", Clock::now() + 20s);
  EXPECT_NE(found.addresses, nullptr) << found.error;
}

TEST_F(ResolveTest, SaysThatThereIsNoSuchName) {
  const Resolved found = resolve("no such name", "50052", Clock::now() + 20s);
  EXPECT_EQ(found.addresses, nullptr);
  EXPECT_NE(found.error, "");
}

TEST_F(ResolveTest, KeepsItsDeadlineWhateverTheLookupDoes) {
  struct Lookup {
    std::promise<void> answers;
    std::promise<void> done;
  };
  const auto shared = std::make_shared<Lookup>();
  std::future<void> done = shared->done.get_future();
  const auto begin = Clock::now();
  const Resolved found = within(begin + 50ms, [shared] {
    shared->answers.get_future().wait();
    shared->done.set_value();
    return Resolved{nullptr, "too late"};
  });
  EXPECT_EQ(found.addresses, nullptr);
  EXPECT_EQ(found.error, "the name server does not answer");
  EXPECT_GE(Clock::now() - begin, 50ms);
  shared->answers.set_value();
  EXPECT_EQ(done.wait_for(20s), std::future_status::ready);
}

}  // namespace
}  // namespace rpc_pipeline
