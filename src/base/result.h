// Result<T>: a value or an Error. Values; any thread.
#pragma once

#include <string>
#include <utility>

#include <tl/expected.hpp>

#include "base/error.h"

namespace yoke {

template <class T>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> fail(ErrorCode code, std::string message, std::string hint = {}) {
  return tl::unexpected<Error>(Error{code, std::move(message), std::move(hint)});
}

inline tl::unexpected<Error> fail(Error error) { return tl::unexpected<Error>(std::move(error)); }

}  // namespace yoke

#define YOKE_CONCAT_INNER(a, b) a##b
#define YOKE_CONCAT(a, b) YOKE_CONCAT_INNER(a, b)

#define YOKE_TRY_IMPL(result, decl, expr, ret)                  \
  auto result = (expr);                                         \
  if (!(result)) ret ::yoke::fail(std::move((result).error())); \
  decl = std::move(*(result))

// YOKE_TRY(auto x, f()): x = the value of f(), or the caller returns its error.
#define YOKE_TRY(decl, expr) YOKE_TRY_IMPL(YOKE_CONCAT(try_, __LINE__), decl, expr, return)

// The same in a coroutine. GCC 12: name every temporary with a destructor before co_await in expr.
#define YOKE_CO_TRY(decl, expr) YOKE_TRY_IMPL(YOKE_CONCAT(try_, __LINE__), decl, expr, co_return)

// For Result<void>.
#define YOKE_CHECK(expr)                                                       \
  if (auto YOKE_CONCAT(try_, __LINE__) = (expr); !YOKE_CONCAT(try_, __LINE__)) \
  return ::yoke::fail(std::move(YOKE_CONCAT(try_, __LINE__).error()))
#define YOKE_CO_CHECK(expr)                                                    \
  if (auto YOKE_CONCAT(try_, __LINE__) = (expr); !YOKE_CONCAT(try_, __LINE__)) \
  co_return ::yoke::fail(std::move(YOKE_CONCAT(try_, __LINE__).error()))
