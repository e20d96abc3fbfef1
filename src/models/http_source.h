// HttpSource: a model file at a server, read by ranges. Owned by whoever made it, which keeps the
// client for as long; one thread at a time.
#pragma once

#include <atomic>
#include <string>

#include "gguf/byte_source.h"
#include "models/fetch.h"
#include "models/http_client.h"
#include "models/retry.h"

namespace yoke::models {

class HttpSource final : public gguf::ByteSource {
 public:
  HttpSource(HttpClient& client, Subject subject, std::string bearer,
             const std::atomic<bool>* cancel)
      : client_(client),
        subject_(std::move(subject)),
        bearer_(std::move(bearer)),
        cancel_(cancel) {}

  // Errors of fetch().
  Result<std::size_t> read(std::uint64_t offset, std::span<char> into) override;
  // Known after the first read.
  std::optional<std::uint64_t> size() const override { return size_; }
  const std::string& name() const override { return subject_.name; }

  std::uint64_t bytes_read() const { return bytes_read_; }  // Over the network,
  std::size_t requests() const { return requests_; }        // in so many requests.

 private:
  Result<Fetched> ask(const FetchOptions& options);
  Result<void> fill(std::uint64_t offset, std::size_t count);
  Result<void> fill_from_front(std::uint64_t end);
  void keep(std::uint64_t start, std::string bytes);

  HttpClient& client_;
  Subject subject_;
  std::string bearer_;
  const std::atomic<bool>* cancel_;
  std::optional<std::uint64_t> size_;
  std::string bytes_;        // What was read last,
  std::uint64_t start_ = 0;  // from there on.
  std::size_t step_ = 256 * 1024;
  std::string url_;  // Where the last answer came from: without the redirect.
  std::uint64_t bytes_read_ = 0;
  std::size_t requests_ = 0;
};

}  // namespace yoke::models
