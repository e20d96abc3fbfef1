// Runs two tasks side by side on the caller's executor until the first of them ends, however it
// ends; then cancels the other, and returns when that has ended too, so that neither outlives the
// call. Asio's own operator|| waits for the first success instead. See io/task.h for what
// cancelling does.
#pragma once

#include <array>
#include <exception>
#include <variant>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/experimental/parallel_group.hpp>
#include <boost/asio/this_coro.hpp>

#include "io/task.h"

namespace yoke::io {

namespace detail {

template <class T>
struct OneResult {
  std::exception_ptr error;
  T value{};
};

template <>
struct OneResult<void> {
  std::exception_ptr error;
};

template <class T>
Task<void> run_into(Task<T> task, OneResult<T>& out) {
  try {
    if constexpr (std::is_void_v<T>) {
      co_await std::move(task);
    } else {
      out.value = co_await std::move(task);
    }
  } catch (...) {
    out.error = std::current_exception();
  }
}

}  // namespace detail

template <class T>
using OrMonostate = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

// The value of the task that ended first, by index; what the other one returned is dropped. An
// exception of the first is thrown on. A and B must be default constructible or void. When the
// caller is cancelled, both are.
template <class A, class B>
Task<std::variant<OrMonostate<A>, OrMonostate<B>>> wait_for_one(Task<A> a, Task<B> b) {
  namespace asio = boost::asio;
  using Outcome = std::variant<OrMonostate<A>, OrMonostate<B>>;
  const auto executor = co_await asio::this_coro::executor;
  detail::OneResult<A> result_a;
  detail::OneResult<B> result_b;
  auto run_a = asio::co_spawn(executor, detail::run_into(std::move(a), result_a), asio::deferred);
  auto run_b = asio::co_spawn(executor, detail::run_into(std::move(b), result_b), asio::deferred);
  auto group = asio::experimental::make_parallel_group(std::move(run_a), std::move(run_b));
  // Named, and not bound by structure: see GCC's double destruction of temporaries around co_await.
  auto ended = co_await group.async_wait(asio::experimental::wait_for_one(), asio::use_awaitable);
  const std::array<std::size_t, 2>& order = std::get<0>(ended);
  if (order[0] == 0) {
    if (result_a.error) std::rethrow_exception(result_a.error);
    if constexpr (std::is_void_v<A>) {
      co_return Outcome(std::in_place_index<0>);
    } else {
      co_return Outcome(std::in_place_index<0>, std::move(result_a.value));
    }
  }
  if (result_b.error) std::rethrow_exception(result_b.error);
  if constexpr (std::is_void_v<B>) {
    co_return Outcome(std::in_place_index<1>);
  } else {
    co_return Outcome(std::in_place_index<1>, std::move(result_b.value));
  }
}

}  // namespace yoke::io
