// WaitList: tasks that sleep until somebody says that something changed. Owned by what they wait
// for; all calls on the one thread of its executor. It must outlive its waiters.
#pragma once

#include <chrono>
#include <list>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>

#include "io/task.h"

namespace yoke::io {

class WaitList {
 public:
  explicit WaitList(boost::asio::any_io_executor executor) : executor_(std::move(executor)) {}

  // Sleeps until the next notify_all, the deadline, or cancellation; the caller looks which.
  Task<void> wait_until(std::chrono::steady_clock::time_point deadline) {
    const auto place = waiters_.emplace(waiters_.end(), executor_, deadline);
    boost::system::error_code ignored;
    co_await place->async_wait(into(ignored));
    waiters_.erase(place);
  }

  void notify_all() {
    for (auto& waiter : waiters_) waiter.cancel();
  }

  std::size_t size() const { return waiters_.size(); }

 private:
  boost::asio::any_io_executor executor_;
  std::list<boost::asio::steady_timer> waiters_;
};

}  // namespace yoke::io
