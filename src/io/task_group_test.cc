#include "io/task_group.h"

#include <stdexcept>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <gtest/gtest.h>

namespace yoke::io {
namespace {

using namespace std::chrono_literals;
namespace asio = boost::asio;

Task<void> wait_an_hour(int& aborted) {
  asio::steady_timer timer(co_await asio::this_coro::executor, 1h);
  boost::system::error_code error;
  co_await timer.async_wait(into(error));
  if (error == asio::error::operation_aborted) ++aborted;
}

Task<void> throws() {
  throw std::runtime_error("broken");
  co_return;
}

Task<void> join_into(TaskGroup& group, std::chrono::milliseconds limit,
                     std::optional<bool>& joined) {
  joined = co_await group.join(limit);
}

TEST(TaskGroup, CancelsAndJoinsItsTasks) {
  asio::io_context context;
  TaskGroup group(context.get_executor());
  int aborted = 0;
  std::optional<bool> joined;
  for (int i = 0; i < 100; ++i) group.spawn(wait_an_hour(aborted));
  context.poll();
  EXPECT_EQ(group.size(), 100u);
  group.cancel();
  asio::co_spawn(context, join_into(group, 5s, joined), asio::detached);
  context.run_for(5s);
  EXPECT_EQ(joined, true);
  EXPECT_EQ(aborted, 100);
}

TEST(TaskGroup, JoinGivesUpAtItsLimit) {
  asio::io_context context;
  TaskGroup group(context.get_executor());
  int aborted = 0;
  std::optional<bool> joined;
  group.spawn(wait_an_hour(aborted));
  asio::co_spawn(context, join_into(group, 5ms, joined), asio::detached);
  context.run_for(200ms);
  EXPECT_EQ(joined, false);
  group.cancel();
  context.run_for(5s);
  EXPECT_EQ(group.size(), 0u);
}

TEST(TaskGroup, OutlivesATaskThatThrows) {
  asio::io_context context;
  TaskGroup group(context.get_executor());
  group.spawn(throws());
  context.run_for(5s);
  EXPECT_EQ(group.size(), 0u);
}

}  // namespace
}  // namespace yoke::io
