#include "fake_engine/http.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdio>

#include "fake_engine/clock.h"

namespace fake_engine {
namespace {

constexpr int64_t kRequestDeadlineNs = 60 * kNsPerS;
constexpr size_t kMaxChunkLineBytes = 1024;
constexpr int kMaxTrailers = 32;

bool is_token(std::string_view text) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || kMarks.find(c) != kMarks.npos;
  });
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

std::string_view trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

bool parse_size(std::string_view text, int base, size_t& size) {
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, size, base);
  return error == std::errc() && rest == end && !text.empty();
}

std::string_view reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 404:
      return "Not Found";
    case 408:
      return "Request Timeout";
    case 413:
      return "Payload Too Large";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    default:
      return "Scripted";
  }
}

}  // namespace

ReadStatus RequestReader::read(HttpRequest& request, int64_t idle_ms) {
  request = {};
  const int64_t start_ns = monotonic_ns();
  if (buffer_.empty() &&
      connection_.read_some(buffer_, start_ns + idle_ms * kNsPerMs) != Wait::kReady) {
    return ReadStatus::kClosed;
  }
  const int64_t deadline_ns = monotonic_ns() + kRequestDeadlineNs;
  size_t end = buffer_.find("\r\n\r\n");
  while (end == buffer_.npos || end > kMaxHeadBytes) {
    if (buffer_.size() > kMaxHeadBytes) {
      bad(431, "the request's head is longer than 32 KiB");
      return ReadStatus::kBad;
    }
    const size_t seen = buffer_.size();
    if (connection_.read_some(buffer_, deadline_ns) != Wait::kReady) return ReadStatus::kClosed;
    end = buffer_.find("\r\n\r\n", seen < 3 ? 0 : seen - 3);
  }
  const std::string head = buffer_.substr(0, end + 2);
  buffer_.erase(0, end + 4);
  if (!parse_head(head, request)) return ReadStatus::kBad;
  return read_body(request, deadline_ns);
}

bool RequestReader::parse_head(std::string_view head, HttpRequest& request) {
  bool first = true;
  while (!head.empty()) {
    const size_t end = head.find("\r\n");
    const std::string_view line = head.substr(0, end);
    head.remove_prefix(end + 2);
    const auto is_control = [](unsigned char c) { return (c < 0x20 && c != '\t') || c == 0x7F; };
    if (std::any_of(line.begin(), line.end(), is_control)) {
      return bad(400, "a control character in the request's head");
    }
    if (first ? !parse_request_line(line, request) : !parse_header(line, request)) return false;
    first = false;
  }
  if (!request.http_1_0 && !request.headers.contains("host")) return bad(400, "no Host header");
  const auto connection = request.headers.find("connection");
  const std::string wish = connection == request.headers.end() ? "" : lower(connection->second);
  request.keep_alive = !request.http_1_0 && wish.find("close") == wish.npos;
  return true;
}

bool RequestReader::parse_request_line(std::string_view line, HttpRequest& request) {
  const size_t space = line.find(' ');
  const size_t second = line.find(' ', space + 1);
  if (space == line.npos || second == line.npos) return bad(400, "malformed request line");
  const std::string_view target = line.substr(space + 1, second - space - 1);
  const std::string_view version = line.substr(second + 1);
  request.method = line.substr(0, space);
  request.http_1_0 = version == "HTTP/1.0";
  if (!is_token(request.method) || !target.starts_with('/') ||
      (version != "HTTP/1.1" && !request.http_1_0)) {
    return bad(400, "malformed request line");
  }
  const size_t question = target.find('?');
  request.path = target.substr(0, question);
  if (question != target.npos) request.query = target.substr(question + 1);
  return true;
}

bool RequestReader::parse_header(std::string_view line, HttpRequest& request) {
  const size_t colon = line.find(':');
  if (colon == line.npos || !is_token(line.substr(0, colon))) {
    return bad(400, "malformed header line");
  }
  if (request.headers.size() == kMaxHeaders) return bad(431, "more than 100 headers");
  const std::string name = lower(line.substr(0, colon));
  const std::string value(trim(line.substr(colon + 1)));
  const auto [entry, added] = request.headers.emplace(name, value);
  if (added) return true;
  if (name == "content-length" || name == "transfer-encoding" || name == "host") {
    return bad(400, "the header " + name + " came twice");
  }
  entry->second += ", " + value;
  return true;
}

ReadStatus RequestReader::read_body(HttpRequest& request, int64_t deadline_ns) {
  const auto length = request.headers.find("content-length");
  const auto encoding = request.headers.find("transfer-encoding");
  const bool has_length = length != request.headers.end();
  const bool has_encoding = encoding != request.headers.end();
  if (!has_length && !has_encoding) return ReadStatus::kRequest;

  size_t bytes = 0;
  if (has_length && has_encoding) {
    bad(400, "both Content-Length and Transfer-Encoding");
  } else if (has_encoding && lower(encoding->second) != "chunked") {
    bad(501, "unknown Transfer-Encoding");
  } else if (has_length && !parse_size(length->second, 10, bytes)) {
    bad(400, "malformed Content-Length");
  } else if (bytes > kMaxBodyBytes) {
    bad(413, "the request's body is larger than 64 MiB");
  } else {
    const auto expect = request.headers.find("expect");
    if (expect != request.headers.end() && lower(expect->second) == "100-continue" &&
        connection_.send_all("HTTP/1.1 100 Continue\r\n\r\n") != Wait::kReady) {
      return ReadStatus::kClosed;
    }
    if (has_encoding) return read_chunked_body(request, deadline_ns);
    const ReadStatus status = need(bytes, deadline_ns);
    if (status != ReadStatus::kRequest) return status;
    request.body = buffer_.substr(0, bytes);
    buffer_.erase(0, bytes);
    return ReadStatus::kRequest;
  }
  return ReadStatus::kBad;
}

ReadStatus RequestReader::read_chunked_body(HttpRequest& request, int64_t deadline_ns) {
  std::string line;
  for (;;) {
    if (const auto status = take_line(line, deadline_ns); status != ReadStatus::kRequest) {
      return status;
    }
    size_t bytes = 0;
    if (!parse_size(trim(std::string_view(line).substr(0, line.find(';'))), 16, bytes)) {
      bad(400, "malformed chunk size");
      return ReadStatus::kBad;
    }
    if (bytes == 0) break;
    if (bytes > kMaxBodyBytes - request.body.size()) {
      bad(413, "the request's body is larger than 64 MiB");
      return ReadStatus::kBad;
    }
    if (const auto status = need(bytes + 2, deadline_ns); status != ReadStatus::kRequest) {
      return status;
    }
    if (buffer_.compare(bytes, 2, "\r\n") != 0) {
      bad(400, "no line end behind a chunk");
      return ReadStatus::kBad;
    }
    request.body.append(buffer_, 0, bytes);
    buffer_.erase(0, bytes + 2);
  }
  for (int trailers = 0; trailers <= kMaxTrailers; ++trailers) {
    const ReadStatus status = take_line(line, deadline_ns);
    if (status != ReadStatus::kRequest || line.empty()) return status;
  }
  bad(431, "too many trailers");
  return ReadStatus::kBad;
}

ReadStatus RequestReader::need(size_t bytes, int64_t deadline_ns) {
  while (buffer_.size() < bytes) {
    if (connection_.read_some(buffer_, deadline_ns) != Wait::kReady) return ReadStatus::kClosed;
  }
  return ReadStatus::kRequest;
}

ReadStatus RequestReader::take_line(std::string& line, int64_t deadline_ns) {
  for (;;) {
    const size_t end = buffer_.find("\r\n");
    if (end != buffer_.npos && end <= kMaxChunkLineBytes) {
      line = buffer_.substr(0, end);
      buffer_.erase(0, end + 2);
      return ReadStatus::kRequest;
    }
    if (buffer_.size() > kMaxChunkLineBytes) {
      bad(400, "chunk line too long");
      return ReadStatus::kBad;
    }
    if (connection_.read_some(buffer_, deadline_ns) != Wait::kReady) return ReadStatus::kClosed;
  }
}

bool RequestReader::bad(int status, std::string what) {
  error_status_ = status;
  error_ = std::move(what);
  return false;
}

std::string status_line(int status) {
  return "HTTP/1.1 " + std::to_string(status) + ' ' + std::string(reason(status)) + "\r\n";
}

std::string chunk(std::string_view bytes) {
  char size[24];
  const int digits = std::snprintf(size, sizeof size, "%zx\r\n", bytes.size());
  std::string framed;
  framed.reserve(bytes.size() + static_cast<size_t>(digits) + 2);
  framed.append(size, static_cast<size_t>(digits)).append(bytes).append("\r\n");
  return framed;
}

}  // namespace fake_engine
