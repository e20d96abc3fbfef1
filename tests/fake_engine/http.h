// HTTP/1.1 as a server speaks it: strict, bounded request reading and the framing of replies.
// Used by one connection thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "fake_engine/connection.h"

namespace fake_engine {

inline constexpr size_t kMaxHeadBytes = 32 * 1024;
inline constexpr size_t kMaxHeaders = 100;
inline constexpr size_t kMaxBodyBytes = 64 * 1024 * 1024;

struct HttpRequest {
  std::string method;
  std::string path;   // Without the query.
  std::string query;  // Without the '?'.
  bool http_1_0 = false;
  bool keep_alive = true;
  std::map<std::string, std::string> headers;  // Names in lower case.
  std::string body;
};

enum class ReadStatus {
  kRequest,
  kClosed,  // The client is gone, was silent for too long, or the process stops.
  kBad,     // See RequestReader::error_status.
};

// Takes one request after the other off a connection; what arrives too early stays buffered.
class RequestReader {
 public:
  explicit RequestReader(Connection& connection) : connection_(connection) {}

  // Waits up to `idle_ms` for the first byte of a request; the rest of it has a fixed deadline.
  ReadStatus read(HttpRequest& request, int64_t idle_ms);

  // After kBad: the HTTP status to answer with, and what was wrong.
  int error_status() const { return error_status_; }
  const std::string& error() const { return error_; }

 private:
  bool parse_head(std::string_view head, HttpRequest& request);
  bool parse_request_line(std::string_view line, HttpRequest& request);
  bool parse_header(std::string_view line, HttpRequest& request);
  ReadStatus read_body(HttpRequest& request, int64_t deadline_ns);
  ReadStatus read_chunked_body(HttpRequest& request, int64_t deadline_ns);

  // Fills the buffer until it holds `bytes`, or until it holds a line end; then `line` has it.
  ReadStatus need(size_t bytes, int64_t deadline_ns);
  ReadStatus take_line(std::string& line, int64_t deadline_ns);

  bool bad(int status, std::string what);

  Connection& connection_;
  std::string buffer_;
  int error_status_ = 0;
  std::string error_;
};

// "HTTP/1.1 200 OK\r\n" and so on; the reply's own headers follow it.
std::string status_line(int status);

// `bytes` as one chunk of a chunked body.
std::string chunk(std::string_view bytes);
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

}  // namespace fake_engine
