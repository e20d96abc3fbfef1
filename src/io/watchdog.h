// Watchdog: the deadline of whatever one connection does at the moment. Moving the deadline is a
// store, not a timer operation, so that it can be done for every chunk of a stream.
// Owned by the connection; all calls on the one thread of its executor. Must outlive run().
#pragma once

#include <chrono>
#include <functional>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>

#include "io/task.h"

namespace yoke::io {

class Watchdog {
 public:
  using Clock = std::chrono::steady_clock;

  // `on_expired` is called once, when a deadline has passed while run() runs; it closes or cancels.
  Watchdog(boost::asio::any_io_executor executor, std::function<void()> on_expired);

  // From now on the deadline is in `limit`, or there is none.
  void arm(Clock::duration limit);
  void disarm() { deadline_ = Clock::time_point::max(); }
  bool expired() const { return expired_; }

  // Watches until stop(), expiry or cancellation; spawn it beside the work.
  Task<void> run();
  void stop();

 private:
  boost::asio::steady_timer timer_;
  std::function<void()> on_expired_;
  Clock::time_point deadline_ = Clock::time_point::max();
  Clock::time_point wakes_at_ = Clock::time_point::max();
  bool expired_ = false;
  bool stopped_ = false;
};

}  // namespace yoke::io
