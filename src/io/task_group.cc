#include "io/task_group.h"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>

#include "base/log.h"

namespace yoke::io {
namespace asio = boost::asio;

TaskGroup::TaskGroup(asio::any_io_executor executor)
    : executor_(std::move(executor)), ended_(executor_) {}

void TaskGroup::spawn(Task<void> task) {
  const auto signal = signals_.emplace(signals_.end());
  auto on_end = [this, signal](std::exception_ptr error) { this->on_end(signal, error); };
  asio::co_spawn(executor_, std::move(task),
                 asio::bind_cancellation_slot(signal->slot(), std::move(on_end)));
}

void TaskGroup::on_end(Signals::iterator signal, std::exception_ptr error) {
  if (error) {
    try {
      std::rethrow_exception(error);
    } catch (const boost::system::system_error& e) {
      const bool cancelled = e.code() == asio::error::operation_aborted;
      if (!cancelled) log::error("A task ended with an unexpected error: {}", e.what());
    } catch (const std::exception& e) {
      log::error("A task ended with an unexpected exception: {}", e.what());
    }
  }
  signals_.erase(signal);
  if (signals_.empty()) ended_.notify_all();
}

void TaskGroup::cancel() {
  // A task may end, and leave the list, inside emit: step on first.
  for (auto it = signals_.begin(); it != signals_.end();) {
    auto& signal = *it++;
    signal.emit(asio::cancellation_type::terminal);
  }
}

Task<bool> TaskGroup::join(std::chrono::steady_clock::duration limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!signals_.empty() && std::chrono::steady_clock::now() < deadline) {
    co_await ended_.wait_until(deadline);
  }
  co_return signals_.empty();
}

}  // namespace yoke::io
