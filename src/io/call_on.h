// Runs a task on another thread's executor and brings its result back to the caller's.
#pragma once

#include <chrono>
#include <exception>
#include <memory>
#include <optional>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "io/task.h"

namespace yoke::io {

namespace detail {

template <class T>
struct CallState {
  explicit CallState(boost::asio::any_io_executor executor)
      : here(executor), done(executor, std::chrono::steady_clock::time_point::max()) {}
  boost::asio::any_io_executor here;
  boost::asio::steady_timer done;
  std::optional<T> value;
  std::exception_ptr error;
};

}  // namespace detail

// The task's value; an exception of it is thrown on. When the caller is cancelled it gets nullopt
// at once, and the task runs on to its own end: a cancellation must not cross threads, so give the
// task a deadline. T must be default constructible.
template <class T>
Task<std::optional<T>> call_on(boost::asio::any_io_executor there, Task<T> task) {
  const auto here = co_await boost::asio::this_coro::executor;
  auto state = std::make_shared<detail::CallState<T>>(here);
  auto on_done = [state](std::exception_ptr error, T value) mutable {
    const auto executor = state->here;
    boost::asio::post(executor,
                      [state = std::move(state), error, value = std::move(value)]() mutable {
                        state->error = error;
                        state->value = std::move(value);
                        state->done.cancel();
                      });
  };
  boost::asio::co_spawn(there, std::move(task), std::move(on_done));
  boost::system::error_code ignored;
  co_await state->done.async_wait(into(ignored));
  if (state->error) std::rethrow_exception(state->error);
  co_return std::move(state->value);
}

}  // namespace yoke::io
