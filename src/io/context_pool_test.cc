#include "io/context_pool.h"

#include <future>
#include <set>

#include <boost/asio/post.hpp>
#include <gtest/gtest.h>

namespace yoke::io {
namespace {

std::thread::id thread_of(boost::asio::io_context& context) {
  std::promise<std::thread::id> id;
  boost::asio::post(context, [&id] { id.set_value(std::this_thread::get_id()); });
  return id.get_future().get();
}

TEST(ContextPool, GivesEachContextOneThreadOfItsOwn) {
  ContextPool pool(3);
  std::set<std::thread::id> threads;
  for (std::size_t i = 0; i < pool.size(); ++i) {
    threads.insert(thread_of(pool.at(i)));
    EXPECT_EQ(thread_of(pool.at(i)), thread_of(pool.at(i)));
  }
  EXPECT_EQ(threads.size(), 3u);
}

TEST(ContextPool, GoesRoundTheContexts) {
  ContextPool pool(2);
  EXPECT_EQ(pool.next_index(), 0u);
  EXPECT_EQ(pool.next_index(), 1u);
  EXPECT_EQ(pool.next_index(), 0u);
}

TEST(ContextPool, HasAtLeastOneContextAndStopsTwice) {
  ContextPool pool(0);
  EXPECT_EQ(pool.size(), 1u);
  pool.stop();
  pool.stop();
}

}  // namespace
}  // namespace yoke::io
