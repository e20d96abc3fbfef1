// One request at a time, with its retries: for what is small. Blocks; one thread at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "base/result.h"
#include "models/http_client.h"
#include "models/retry.h"

namespace yoke::models {

struct FetchOptions {
  Subject subject;
  std::string bearer;
  std::optional<ByteRange> range;
  std::uint64_t most_bytes = 0;  // Of the body: it is cut there, and that is no error.
  bool partly = false;           // The front of a range will do, if the rest of it does not come.
  RetryLimits retry{.without_progress = std::chrono::seconds(10)};
  const std::atomic<bool>* cancel = nullptr;
  std::function<void(const std::string&)> on_note;  // That it waits, and why.
};

struct Fetched {
  HttpHead head;
  std::string last_url;
  std::string body;
};

// The answer, whose status is one of success, or 416 where a range was asked for. kHubRefused,
// kHubNotFound, kDownloadFailed, kPullCancelled.
Result<Fetched> fetch(HttpClient& client, const FetchOptions& options);

inline bool is_cancelled(const std::atomic<bool>* cancel) {
  return cancel != nullptr && cancel->load();
}

Error cancelled();

// "waits 30 s, as the server asks", for on_note.
std::string wait_note(const HttpEnd& end, const Subject& subject, std::chrono::milliseconds wait);

}  // namespace yoke::models
