#include "io/wait_for_one.h"

#include <stdexcept>

#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <gtest/gtest.h>

#include "io/task_group.h"

namespace yoke::io {
namespace {

using namespace std::chrono_literals;
namespace asio = boost::asio;

// Sleeps and says how that ended.
Task<std::string> sleeper(std::chrono::milliseconds time, std::string name, int& ended) {
  asio::steady_timer timer(co_await asio::this_coro::executor, time);
  boost::system::error_code error;
  co_await timer.async_wait(into(error));
  ++ended;
  co_return error ? name + " cancelled" : name;
}

Task<void> thrower() {
  throw std::runtime_error("broken");
  co_return;
}

template <class F>
void run(F body) {
  asio::io_context context;
  std::exception_ptr failure;
  asio::co_spawn(context, body(), [&](std::exception_ptr error) { failure = error; });
  context.run_for(10s);
  EXPECT_TRUE(context.stopped()) << "the test's task did not end";
  if (failure) std::rethrow_exception(failure);
}

Task<void> first_wins() {
  int ended = 0;
  auto outcome = co_await wait_for_one(sleeper(1ms, "a", ended), sleeper(1h, "b", ended));
  EXPECT_EQ(outcome.index(), 0u);
  EXPECT_EQ(std::get<0>(outcome), "a");
  EXPECT_EQ(ended, 2) << "the loser must have ended too";
}

TEST(WaitForOne, ReturnsTheFirstAndWaitsForTheOtherToEnd) { run(first_wins); }

Task<void> failure_counts() {
  int ended = 0;
  bool threw = false;
  try {
    co_await wait_for_one(thrower(), sleeper(1h, "b", ended));
  } catch (const std::runtime_error&) {
    threw = true;
  }
  EXPECT_TRUE(threw);
  EXPECT_EQ(ended, 1);
}

TEST(WaitForOne, CountsAFailureAsTheFirstToEnd) { run(failure_counts); }

struct CountsItsEnd {
  explicit CountsItsEnd(int& ends) : count(ends) {}
  ~CountsItsEnd() { ++count; }
  int& count;
};

// Waits again and again, as a relay does.
Task<void> never_ends(int& destroyed, int& waits) {
  const CountsItsEnd guard(destroyed);
  while (true) {
    asio::steady_timer timer(co_await asio::this_coro::executor, 1h);
    boost::system::error_code ignored;
    ++waits;
    co_await timer.async_wait(into(ignored));
  }
}

Task<void> cancel_unwinds() {
  int ended = 0;
  int destroyed = 0;
  int waits = 0;
  auto outcome = co_await wait_for_one(never_ends(destroyed, waits), sleeper(1ms, "b", ended));
  EXPECT_EQ(outcome.index(), 1u);
  EXPECT_EQ(destroyed, 1);
  EXPECT_LE(waits, 2) << "a cancelled task must not wait for something new";
}

TEST(WaitForOne, ACancelledLoserUnwinds) { run(cancel_unwinds); }

Task<void> busy(int& rounds) {
  // Each wait is over at once: the cancellation always finds the task between two of them.
  while (true) {
    co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
    ++rounds;
  }
}

Task<void> cancel_between_waits() {
  int ended = 0;
  int rounds = 0;
  auto outcome = co_await wait_for_one(busy(rounds), sleeper(1ms, "b", ended));
  EXPECT_EQ(outcome.index(), 1u);
  EXPECT_GT(rounds, 0);
}

TEST(WaitForOne, ACancellationBetweenTwoWaitsIsNotLost) { run(cancel_between_waits); }

Task<void> nested(int& ended) {
  co_await wait_for_one(sleeper(1h, "a", ended), sleeper(1h, "b", ended));
  ++ended;
}

Task<void> outer_cancel() {
  int ended = 0;
  TaskGroup group(co_await asio::this_coro::executor);
  group.spawn(nested(ended));
  asio::steady_timer timer(co_await asio::this_coro::executor, 5ms);
  co_await timer.async_wait(asio::use_awaitable);
  group.cancel();
  EXPECT_TRUE(co_await group.join(5s));
  EXPECT_EQ(ended, 3);
}

TEST(WaitForOne, PassesACancellationOnToBoth) { run(outer_cancel); }

}  // namespace
}  // namespace yoke::io
