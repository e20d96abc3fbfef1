// Task<T>: the coroutine type of all I/O code, and how its steps report errors.
// A task runs on the executor it was spawned on, one step at a time.
//
// Cancelling a task ends what it waits for with operation_aborted. Whatever it would wait for next
// throws that as an exception instead (Asio's default, and it must stay so: a cancellation that
// finds the task between two waits would be lost otherwise). So a cancelled task unwinds; clean up
// in destructors and not after a co_await.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/system/error_code.hpp>

namespace yoke::io {

template <class T>
using Task = boost::asio::awaitable<T>;

// Completion token: the operation's error goes into `error` and nothing is thrown.
//   std::size_t n = co_await socket.async_read_some(buffer, into(error));
inline auto into(boost::system::error_code& error) {
  return boost::asio::redirect_error(boost::asio::use_awaitable, error);
}

}  // namespace yoke::io
