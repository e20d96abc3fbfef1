#include "io/wait_list.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

namespace yoke::io {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

TEST(WaitList, WakesEveryWaiterAndForgetsThem) {
  boost::asio::io_context context;
  WaitList list(context.get_executor());
  int woken = 0;
  auto waiter = [](WaitList& waits, int& count) -> Task<void> {
    co_await waits.wait_until(Clock::now() + 1h);
    ++count;
  };
  for (int i = 0; i < 3; ++i) {
    boost::asio::co_spawn(context, waiter(list, woken), boost::asio::detached);
  }
  context.poll();
  EXPECT_EQ(list.size(), 3u);
  EXPECT_EQ(woken, 0);
  list.notify_all();
  context.run_for(5s);
  EXPECT_EQ(woken, 3);
  EXPECT_EQ(list.size(), 0u);
}

TEST(WaitList, EndsAtTheDeadline) {
  boost::asio::io_context context;
  WaitList list(context.get_executor());
  bool woken = false;
  auto waiter = [](WaitList& waits, bool& done) -> Task<void> {
    co_await waits.wait_until(Clock::now() + 2ms);
    done = true;
  };
  boost::asio::co_spawn(context, waiter(list, woken), boost::asio::detached);
  context.run_for(5s);
  EXPECT_TRUE(woken);
}

}  // namespace
}  // namespace yoke::io
