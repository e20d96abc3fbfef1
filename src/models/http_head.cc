#include "models/http_head.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <string>

#include <curl/curl.h>

namespace yoke::models {
namespace {

constexpr std::size_t kLongestValue = 8192;

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())) != 0) {
    text.remove_prefix(1);
  }
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) {
    text.remove_suffix(1);
  }
  return text;
}

bool same_name(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) ==
           std::tolower(static_cast<unsigned char>(y));
  });
}

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// "bytes 0-99/1000"; "bytes */1000" says only the size.
void read_content_range(std::string_view value, HttpHead& head) {
  if (!value.starts_with("bytes ")) return;
  value.remove_prefix(6);
  const std::size_t slash = value.find('/');
  if (slash == std::string_view::npos) return;
  head.whole = number(trimmed(value.substr(slash + 1)));
  const std::string_view range = trimmed(value.substr(0, slash));
  const std::size_t dash = range.find('-');
  if (dash == std::string_view::npos) return;
  const auto first = number(range.substr(0, dash));
  const auto last = number(range.substr(dash + 1));
  if (first && last && *last >= *first && *last - *first < ~std::uint64_t{0}) {
    head.range = ByteRange{*first, *last - *first + 1};
  }
}

// <https://…>; rel="next", and others.
std::string next_of_link(std::string_view value) {
  for (std::size_t start = value.find('<'); start != std::string_view::npos;
       start = value.find('<', start + 1)) {
    const std::size_t end = value.find('>', start);
    if (end == std::string_view::npos) return {};
    const std::size_t more = std::min(value.find('<', end), value.size());
    if (value.substr(end, more - end).find("rel=\"next\"") != std::string_view::npos) {
      return std::string(value.substr(start + 1, end - start - 1));
    }
  }
  return {};
}

// RateLimit: "resolvers";r=0;t=55 says when the hub's window ends.
std::optional<std::chrono::seconds> reset_of_rate_limit(std::string_view value) {
  const std::size_t at = value.find(";t=");
  if (at == std::string_view::npos) return std::nullopt;
  value.remove_prefix(at + 3);
  return parse_retry_after(value.substr(0, std::min(value.find(';'), value.size())), {});
}

void read_status(std::string_view line, HttpHead& head) {
  std::string linked = std::move(head.linked_etag);
  head = {};
  head.linked_etag = std::move(linked);
  const std::size_t space = line.find(' ');
  if (space == std::string_view::npos) return;
  head.status = static_cast<int>(number(line.substr(space + 1, 3)).value_or(0));
}

void read_field(std::string_view name, std::string_view value, HttpHead& head) {
  if (same_name(name, "etag")) head.etag = value;
  if (same_name(name, "x-linked-etag")) head.linked_etag = value;
  if (same_name(name, "x-error-code")) head.error_code = value;
  if (same_name(name, "link")) head.next_page = next_of_link(value);
  if (same_name(name, "content-length")) head.length = number(value);
  if (same_name(name, "content-range")) read_content_range(value, head);
  if (same_name(name, "last-modified")) {
    head.modified = ::curl_getdate(std::string(value).c_str(), nullptr);
  }
  if (same_name(name, "retry-after")) {
    head.retry_after = parse_retry_after(value, std::chrono::system_clock::now());
  }
  if (same_name(name, "ratelimit") && !head.retry_after && head.status == 429) {
    head.retry_after = reset_of_rate_limit(value);
  }
}

}  // namespace

void read_head_line(std::string_view line, HttpHead& head) {
  if (line.starts_with("HTTP/")) return read_status(trimmed(line), head);
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || line.size() > kLongestValue) return;
  read_field(trimmed(line.substr(0, colon)), trimmed(line.substr(colon + 1)), head);
}

std::optional<std::chrono::seconds> parse_retry_after(std::string_view value,
                                                      std::chrono::system_clock::time_point now) {
  value = trimmed(value);
  constexpr std::uint64_t kMost = 1'000'000'000;
  if (const auto seconds = number(value)) {
    return std::chrono::seconds(static_cast<std::int64_t>(std::min(*seconds, kMost)));
  }
  const std::time_t date = ::curl_getdate(std::string(value).c_str(), nullptr);
  if (date < 0) return std::nullopt;
  const auto wait =
      std::chrono::ceil<std::chrono::seconds>(std::chrono::system_clock::from_time_t(date) - now);
  return std::max(wait, std::chrono::seconds(0));
}

}  // namespace yoke::models
