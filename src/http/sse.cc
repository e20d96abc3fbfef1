#include "http/sse.h"

#include "base/units.h"

namespace yoke::http {

Result<void> SseParser::feed(std::string_view piece) {
  // Parsed bytes are dropped here and not per event, so that many events in a piece cost one move.
  buffer_.erase(0, parsed_);
  parsed_ = 0;
  buffer_.append(piece);
  if (buffer_.size() - piece.size() + pending_.data.size() > max_event_bytes_) {
    return fail(kInvalidArgument,
                "A server-sent event is longer than " + format_bytes(max_event_bytes_) + ".");
  }
  return {};
}

// Lines end with LF, CR LF or CR (the WHATWG specification's "end-of-line").
bool SseParser::take_line(std::string_view& line) {
  const std::string_view rest = std::string_view(buffer_).substr(parsed_);
  const auto end = rest.find_first_of("\r\n");
  if (end == std::string_view::npos) return false;
  std::size_t length = 1;
  if (rest[end] == '\r') {
    if (end + 1 == rest.size()) return false;  // An LF may follow in the next piece.
    if (rest[end + 1] == '\n') length = 2;
  }
  line = rest.substr(0, end);
  parsed_ += end + length;
  return true;
}

bool SseParser::next(SseEvent& event) {
  std::string_view line;
  while (take_line(line)) {
    if (line.empty()) {
      if (!has_data_) {
        pending_ = {};
        continue;
      }
      event = std::move(pending_);
      pending_ = {};
      has_data_ = false;
      return true;
    }
    const auto colon = line.find(':');
    const std::string_view field = line.substr(0, colon);
    std::string_view value = colon == std::string_view::npos ? "" : line.substr(colon + 1);
    if (value.starts_with(' ')) value.remove_prefix(1);
    if (field == "data") {
      if (has_data_) pending_.data += '\n';
      pending_.data += value;
      has_data_ = true;
    } else if (field == "event") {
      pending_.event = value;
    }  // Comments (an empty field), ids and retry times are of no use here.
  }
  return false;
}

}  // namespace yoke::http
