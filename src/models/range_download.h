// Transfers: the bytes that a part of a file lacks, from a server. Owned by a download; one thread
// at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "base/result.h"
#include "models/download.h"
#include "models/part_file.h"

namespace yoke::models {

class Transfers {
 public:
  Transfers(HttpClient& client, PartFile& part, const Download& what,
            const DownloadOptions& options);
  ~Transfers();
  Transfers(const Transfers&) = delete;
  Transfers& operator=(const Transfers&) = delete;

  // If not empty, each answer has to have it.
  std::string etag;

  // What is missing, in ranges over several connections.
  Result<void> by_ranges();
  // All of it over one connection, from its front: for servers that can't do it in ranges.
  Result<void> at_once();

  // It failed because the server has another file now, or does not send ranges any more.
  bool remote_changed() const { return remote_changed_; }

 private:
  using Clock = Retry::Clock;
  // A range on its way.
  struct Active {
    ByteRange range;
    std::uint64_t got = 0;
    bool wrong = false;  // The answer is not what was asked for.
  };

  Result<void> run_ranges();
  Result<void> start_more();
  std::optional<ByteRange> next_range() const;
  bool fits(const HttpHead& head, const Active& active) const;
  bool take(Active& active, std::string_view bytes);
  Result<void> ended(const HttpEnd& end);
  Result<void> failed(const HttpEnd& end);
  Result<void> run_whole();
  Result<void> tick();

  HttpClient& client_;
  PartFile& part_;
  const Download& what_;
  const DownloadOptions& options_;
  std::map<std::size_t, Active> active_;
  std::size_t connections_;
  Retry retry_;
  Clock::time_point not_before_{};
  Clock::time_point saved_;
  Clock::time_point shown_{};
  std::uint64_t saved_bytes_ = 0;
  std::optional<Error> write_error_;
  bool remote_changed_ = false;
};

}  // namespace yoke::models
