// HttpClient: requests to hubs and file servers, several at a time, over libcurl. Owned by one pull
// or one reader; one thread at a time. Redirects are followed; a bearer token goes to the origin of
// the request's address only, and no redirect leads from https to http. Proxies and trusted
// certificates are what the environment names. Messages never hold an address's query or a token.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace yoke::models {

struct ByteRange {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

// What a server said ahead of the body. Empty or none is what it did not say.
struct HttpHead {
  int status = 0;
  std::string etag;                     // Of the last server, with its quotes.
  std::string linked_etag;              // Of the hub: the SHA-256 of a large file.
  std::string error_code;               // Of the hub: "GatedRepo", "RepoNotFound"
  std::string next_page;                // An address, from Link.
  std::optional<ByteRange> range;       // Of Content-Range,
  std::optional<std::uint64_t> whole;   // and the size of the file in it.
  std::optional<std::uint64_t> length;  // Of the body.
  std::optional<std::chrono::seconds> retry_after;
  std::int64_t modified = -1;  // Seconds since 1970.
};

struct HttpRequest {
  std::string url;
  std::string bearer;  // Empty: none.
  std::optional<ByteRange> range;
  std::function<bool(const HttpHead&)> on_head;   // False ends the request.
  std::function<bool(std::string_view)> on_body;  // Likewise.
};

struct HttpLimits {
  std::chrono::seconds connect{15};
  std::chrono::seconds stall{15};  // Without a byte.
};

struct HttpEnd {
  std::size_t id = 0;
  HttpHead head;         // A status of 0: there was no answer.
  std::string last_url;  // Where redirects led to; may hold secrets.
  bool stopped = false;  // By on_head or on_body.
  std::string problem;   // Why it did not get to its end: "Could not resolve host: x"; or empty.
  std::string remedy;    // What to do about it, where trying again is of no use.
  bool ok() const { return problem.empty() && !stopped && head.status / 100 == 2; }
};

class HttpClient {
 public:
  explicit HttpClient(HttpLimits limits = {});
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Its number; kInternal.
  Result<std::size_t> start(HttpRequest request);
  // Goes on with all of them until one ends, at most for `limit`; those that ended.
  std::vector<HttpEnd> wait(std::chrono::milliseconds limit);
  // Ends it at once; unknown numbers are passed over.
  void stop(std::size_t id);
  void stop_all();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Scheme, host and port the same.
bool same_origin(std::string_view a, std::string_view b);

// A path or one part of it, as it stands in an address; `keep_slash`: slashes stay.
std::string url_encode(std::string_view text, bool keep_slash);
// None for what is no right encoding, or would hold a NUL.
std::optional<std::string> url_decode(std::string_view text);

}  // namespace yoke::models
