// When a request that failed is tried again, and what is said when it is not. Pure; any thread.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "base/result.h"
#include "models/http_client.h"

namespace yoke::models {

struct RetryLimits {
  std::chrono::milliseconds without_progress{120'000};  // Then it is given up.
  std::chrono::milliseconds first_pause{250};           // Doubled up to
  std::chrono::milliseconds longest_pause{15'000};
  std::chrono::seconds longest_wait{900};  // That servers may ask for, in all, without progress.
};

class Retry {
 public:
  using Clock = std::chrono::steady_clock;
  Retry(const RetryLimits& limits, Clock::time_point now) : limits_(limits), since_(now) {}

  void progressed(Clock::time_point now);
  // After a failure: when to try again, not before `server_wait`. None: no more.
  std::optional<Clock::time_point> next(Clock::time_point now,
                                        std::optional<std::chrono::seconds> server_wait);

 private:
  RetryLimits limits_;
  Clock::time_point since_;  // Of the last progress.
  std::chrono::milliseconds granted_{0};
  int failures_ = 0;
};

// What a request was for.
struct Subject {
  std::string name;    // "hf:org/repo", a file of it, or an address without secrets.
  std::string url;     // That was asked; never shown.
  std::string page;    // Where a person can look at a hub's repository; empty: no hub.
  bool token = false;  // There was one.
};

// Whether the same request may succeed later.
bool may_pass(const HttpEnd& end, const Subject& subject);

// Why a request that did not succeed failed: kHubRefused, kHubNotFound, kDownloadFailed.
Error error_of(const HttpEnd& end, const Subject& subject);

}  // namespace yoke::models
