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
    const Waiter waiter(*this, deadline);
    boost::system::error_code ignored;
    co_await waiter.place->async_wait(into(ignored));
  }

  void notify_all() {
    for (auto& waiter : waiters_) waiter.cancel();
  }

  std::size_t size() const { return waiters_.size(); }

 private:
  using Timers = std::list<boost::asio::steady_timer>;

  // A place in the list for as long as it lives.
  struct Waiter {
    Waiter(WaitList& wait_list, std::chrono::steady_clock::time_point deadline)
        : list(wait_list),
          place(list.waiters_.emplace(list.waiters_.end(), list.executor_, deadline)) {}
    ~Waiter() { list.waiters_.erase(place); }
    Waiter(const Waiter&) = delete;
    Waiter& operator=(const Waiter&) = delete;
    WaitList& list;
    Timers::iterator place;
  };

  boost::asio::any_io_executor executor_;
  Timers waiters_;
};

}  // namespace yoke::io
