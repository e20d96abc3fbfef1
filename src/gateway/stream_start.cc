#include "gateway/stream_start.h"

namespace yoke::gateway {
namespace {

constexpr std::string_view kEventEnd = "\n\n";
constexpr std::string_view kData = "data: ";
// A progress event has a few hundred bytes.
constexpr std::size_t kMaxEvent = 64u << 10;

}  // namespace

bool is_progress_event(std::string_view data) {
  // A text of the model can't look like this: quotes are escaped within JSON strings.
  return data.find(R"("prompt_progress":)") != std::string_view::npos;
}

std::string_view StreamStart::feed(std::string_view piece) {
  if (over_) return piece;
  buffer_ += piece;
  out_.clear();
  std::size_t done = 0;
  while (!over_) {
    const std::size_t end = buffer_.find(kEventEnd, done);
    if (end == std::string::npos) break;
    const std::string_view event = std::string_view(buffer_).substr(done, end - done);
    const std::size_t next = end + kEventEnd.size();
    if (event.starts_with(':')) {
      out_.append(event).append(kEventEnd);
    } else if (event.starts_with(kData) && is_progress_event(event.substr(kData.size()))) {
      // Dropped.
    } else if (event.starts_with(R"(data: {"error":)")) {
      error_ = event.substr(kData.size());
      over_ = true;
    } else {
      over_ = true;
      break;  // It belongs to what follows.
    }
    done = next;
  }
  buffer_.erase(0, done);
  if (buffer_.size() > kMaxEvent) over_ = true;
  if (over_) {
    out_ += buffer_;
    buffer_.clear();
  }
  return out_;
}

}  // namespace yoke::gateway
