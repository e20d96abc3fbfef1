#include "io/watchdog.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

namespace yoke::io {
namespace {

using namespace std::chrono_literals;

struct Fixture {
  boost::asio::io_context context;
  int expired = 0;
  Watchdog dog{context.get_executor(), [this] { ++expired; }};
  Fixture() { boost::asio::co_spawn(context, dog.run(), boost::asio::detached); }
};

TEST(Watchdog, ExpiresOnceAfterItsLimit) {
  Fixture f;
  f.dog.arm(5ms);
  f.context.run_for(5s);
  EXPECT_EQ(f.expired, 1);
  EXPECT_TRUE(f.dog.expired());
}

TEST(Watchdog, IsPutOffByANewLimit) {
  Fixture f;
  f.dog.arm(20ms);
  f.context.poll();
  f.dog.arm(1h);
  f.context.run_for(60ms);
  EXPECT_EQ(f.expired, 0);
  f.dog.stop();
  f.context.run_for(5s);
  EXPECT_TRUE(f.context.stopped());
}

TEST(Watchdog, AnEarlierLimitReplacesALaterOne) {
  Fixture f;
  f.dog.arm(1h);
  f.context.poll();
  f.dog.arm(5ms);
  f.context.run_for(5s);
  EXPECT_EQ(f.expired, 1);
}

TEST(Watchdog, WithoutADeadlineItWaits) {
  Fixture f;
  f.dog.arm(5ms);
  f.dog.disarm();
  f.context.run_for(30ms);
  EXPECT_EQ(f.expired, 0);
  f.dog.stop();
  f.context.run_for(5s);
  EXPECT_TRUE(f.context.stopped());
}

}  // namespace
}  // namespace yoke::io
