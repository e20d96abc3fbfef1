#include "gateway/event_stream.h"

#include <algorithm>
#include <array>

namespace yoke::gateway {
namespace {

constexpr std::string_view kEventEnd = "\n\n";
constexpr std::string_view kData = "data: ";
constexpr std::array<std::string_view, 3> kErrors{R"({"error":)", R"({"object":"error")",
                                                  R"({"object": "error")"};

}  // namespace

bool is_progress_event(std::string_view data) {
  // A text of the model can't look like this: quotes are escaped within JSON strings.
  return data.find(R"("prompt_progress":)") != std::string_view::npos;
}

bool is_error_event(std::string_view data) {
  return std::ranges::any_of(kErrors, [data](auto mark) { return data.starts_with(mark); });
}

std::size_t find_error_event(std::string_view piece) {
  std::size_t first = std::string_view::npos;
  for (std::size_t at = piece.find(kData); at < piece.size(); at = piece.find(kData, at + 1)) {
    if (!is_error_event(piece.substr(at + kData.size()))) continue;
    first = at;
    break;
  }
  return first;
}

std::string_view EventStream::feed(std::string_view piece) {
  if (error_) return {};
  const bool straight = begun_ && buffer_.empty() && piece.ends_with(kEventEnd);
  if (!straight) buffer_ += piece;
  const std::string_view all = straight ? piece : std::string_view(buffer_);
  const std::size_t last = all.rfind(kEventEnd);
  if (last == std::string_view::npos) return {};
  const std::string_view events = all.substr(0, last + kEventEnd.size());

  out_.clear();
  std::size_t passed = begun_ ? 0 : take_start(events);
  // Errors are rare and come as an event of their own: look where events begin.
  for (std::size_t at = passed; at < events.size() && !error_;
       at = events.find(kEventEnd, at) + kEventEnd.size()) {
    const std::string_view event = events.substr(at);
    if (!event.starts_with(kData) || !is_error_event(event.substr(kData.size()))) continue;
    const std::size_t end = event.find(kEventEnd);
    error_ = event.substr(kData.size(), end - kData.size());
    out_.append(events.substr(passed, at - passed));
    passed = events.size();
  }
  if (straight && out_.empty()) return events.substr(passed);
  out_.append(events.substr(passed));
  buffer_.erase(0, straight ? 0 : events.size());
  return out_;
}

// Puts the comments before the answer into out_ and drops the progress; returns where the answer
// begins.
std::size_t EventStream::take_start(std::string_view events) {
  std::size_t at = 0;
  while (at < events.size()) {
    const std::size_t next = events.find(kEventEnd, at) + kEventEnd.size();
    const std::string_view event = events.substr(at, next - at);
    if (event.starts_with(':')) {
      out_.append(event);
    } else if (!event.starts_with(kData) || !is_progress_event(event)) {
      begun_ = true;
      break;
    }
    at = next;
  }
  return at;
}

}  // namespace yoke::gateway
