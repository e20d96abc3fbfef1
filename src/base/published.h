// Published<T>: an immutable value that one thread replaces and any thread reads. A reader keeps
// the version it took for as long as it likes. The lock is held for the copy of a pointer only.
#pragma once

#include <memory>
#include <mutex>
#include <utility>

namespace yoke {

template <class T>
class Published {
 public:
  explicit Published(T value) : value_(std::make_shared<const T>(std::move(value))) {}

  std::shared_ptr<const T> get() const {
    const std::lock_guard lock(mutex_);
    return value_;
  }

  void set(T value) {
    auto next = std::make_shared<const T>(std::move(value));
    const std::lock_guard lock(mutex_);
    value_.swap(next);
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const T> value_;
};

}  // namespace yoke
