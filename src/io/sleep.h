// Sleeping in a task. Ends early, without an error, when the task is cancelled.
#pragma once

#include <chrono>

#include <boost/asio/steady_timer.hpp>

#include "io/task.h"

namespace yoke::io {

inline Task<void> sleep_for(std::chrono::steady_clock::duration time) {
  boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor, time);
  boost::system::error_code ignored;
  co_await timer.async_wait(into(ignored));
}

}  // namespace yoke::io
