#include "io/call_on.h"

#include <stdexcept>
#include <thread>

#include <boost/asio/use_future.hpp>
#include <gtest/gtest.h>

#include "io/context_pool.h"
#include "io/sleep.h"
#include "io/wait_for_one.h"

namespace yoke::io {
namespace {

using namespace std::chrono_literals;
namespace asio = boost::asio;

Task<std::thread::id> my_thread() { co_return std::this_thread::get_id(); }

Task<bool> called_there(ContextPool& pool) {
  const auto before = std::this_thread::get_id();
  auto call = call_on(pool.at(1).get_executor(), my_thread());
  const auto there = co_await std::move(call);
  co_return there.has_value() && (*there != before) && std::this_thread::get_id() == before;
}

TEST(CallOn, RunsThereAndReturnsHere) {
  ContextPool pool(2);
  for (int i = 0; i < 200; ++i) {
    EXPECT_TRUE(asio::co_spawn(pool.at(0), called_there(pool), asio::use_future).get());
  }
}

Task<int> throws() {
  throw std::runtime_error("broken");
  co_return 1;
}

Task<int> call_throwing(ContextPool& pool) {
  auto call = call_on(pool.at(1).get_executor(), throws());
  const auto value = co_await std::move(call);
  co_return value.value_or(0);
}

TEST(CallOn, PassesAnExceptionOn) {
  ContextPool pool(2);
  auto result = asio::co_spawn(pool.at(0), call_throwing(pool), asio::use_future);
  EXPECT_THROW(result.get(), std::runtime_error);
}

Task<int> slow() {
  co_await sleep_for(50ms);
  co_return 1;
}

Task<std::size_t> give_up_early(ContextPool& pool) {
  auto call = call_on(pool.at(1).get_executor(), slow());
  auto clock = sleep_for(1ms);
  const auto outcome = co_await wait_for_one(std::move(call), std::move(clock));
  co_return outcome.index();
}

TEST(CallOn, LetsACancelledCallerGoWhileTheTaskRunsOn) {
  ContextPool pool(2);
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(asio::co_spawn(pool.at(0), give_up_early(pool), asio::use_future).get(), 1u);
  }
  // The abandoned tasks end on their own context and must find nothing that is gone.
  asio::co_spawn(pool.at(1), sleep_for(100ms), asio::use_future).get();
}

}  // namespace
}  // namespace yoke::io
