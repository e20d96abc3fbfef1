// Time in tests: a limit for those that look for waits without an end. One a test.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <stop_token>
#include <thread>

namespace rpc_pipeline {

using namespace std::chrono_literals;

/// Deadlines in tests are short, and a program that is watched is slow.
#if defined(__SANITIZE_THREAD__)
constexpr int kSlower = 4;
#elif defined(__SANITIZE_ADDRESS__)
constexpr int kSlower = 2;
#else
constexpr int kSlower = 1;
#endif

/// Ends the program when a test takes too long: a wait that never ends is what some of them look
/// for.
class Watchdog {
 public:
  explicit Watchdog(std::chrono::seconds limit = 100s)
      : thread_([this, limit](std::stop_token stop) {
          std::unique_lock lock(mutex_);
          if (over_.wait_for(lock, stop, limit, [] { return false; }) || stop.stop_requested())
            return;
          std::fputs("a wait did not end\n", stderr);
          std::abort();
        }) {}

 private:
  std::mutex mutex_;
  std::condition_variable_any over_;
  std::jthread thread_;
};

}  // namespace rpc_pipeline
