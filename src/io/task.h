// Task<T>: the coroutine type of all I/O code, and how its steps report errors.
// A task runs on the executor it was spawned on, one step at a time.
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
