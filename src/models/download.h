// One file from a server onto the disk: over several connections, going on after whatever ended the
// last try, checked at its end. Blocks; one thread at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "base/result.h"
#include "models/digest.h"
#include "models/http_client.h"
#include "models/retry.h"

namespace yoke::models {

struct Download {
  Subject subject;
  std::string bearer;
  std::filesystem::path path;          // Its directory is there.
  std::optional<std::uint64_t> bytes;  // If somebody said how many there have to be,
  Checksum checksum{};                 // and what they have to give.
};

struct DownloadOptions {
  int connections = 4;
  RetryLimits retry{};
  const std::atomic<bool>* cancel = nullptr;
  // Bytes that are there, of all that there will be (0: nobody knows); `checking`: the checksum is
  // being computed.
  std::function<void(std::uint64_t done, std::uint64_t total, bool checking)> on_progress;
  std::function<void(const std::string&)> on_note;
};

struct Downloaded {
  std::uint64_t bytes = 0;
  std::string sha256;  // Empty if nobody said what it has to be.
};

// The file is at its path, durable, and right as far as that was said. On an error what is there
// stays for the next call, but for kDownloadDamaged, after which nothing of it is left.
// kHubRefused, kHubNotFound, kDownloadFailed, kDiskFull, kPullCancelled, kIo.
Result<Downloaded> download(HttpClient& client, const Download& what,
                            const DownloadOptions& options);

// What a server says of a file without sending it.
struct RemoteFile {
  std::optional<std::uint64_t> bytes;
  bool ranges = false;
  std::string etag;            // One that stands for the bytes; or empty.
  std::string sha256;          // Of the hub; or empty.
  std::int64_t modified = -1;  // Seconds since 1970.
};

// Errors as fetch().
Result<RemoteFile> look_at(HttpClient& client, const Download& what,
                           const DownloadOptions& options);

}  // namespace yoke::models
