// TaskGroup: tasks that belong together and end together. Owned by what spawns them; all calls on
// the one thread of its executor. Must outlive its tasks: await join() before it goes.
#pragma once

#include <list>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>

#include "io/task.h"
#include "io/wait_list.h"

namespace yoke::io {

class TaskGroup {
 public:
  explicit TaskGroup(boost::asio::any_io_executor executor);
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  // Starts the task. An exception that leaves it is logged as a bug and ends only that task.
  void spawn(Task<void> task);

  // Cancels the tasks that run now; each sees operation_aborted at what it waits for.
  void cancel();

  // Returns when no task is left, or when `limit` has passed; true if none is left.
  Task<bool> join(std::chrono::steady_clock::duration limit);

  std::size_t size() const { return signals_.size(); }

 private:
  using Signals = std::list<boost::asio::cancellation_signal>;
  void on_end(Signals::iterator signal, std::exception_ptr error);

  boost::asio::any_io_executor executor_;
  Signals signals_;
  WaitList ended_;
};

}  // namespace yoke::io
