#include "gateway/sent_reply.h"

namespace yoke::gateway {
namespace {

constexpr std::string_view kEventEnd = "\n\n";
constexpr std::string_view kData = "data: ";

// Where the value behind `mark` begins, or npos. A mark has unescaped quotes, so no text of the
// model can hold it.
std::size_t value_at(std::string_view data, std::string_view mark) {
  const std::size_t at = data.find(mark);
  return at == std::string_view::npos ? at : at + mark.size();
}

bool has(std::string_view data, std::string_view mark) {
  return data.find(mark) != std::string_view::npos;
}

// The inside of the JSON string that begins at `start`.
std::string_view string_inside(std::string_view data, std::size_t start) {
  std::size_t end = start;
  while (end < data.size() && data[end] != '"') end += data[end] == '\\' ? 2 : 1;
  return data.substr(start, end - start);
}

// Whether there was something to append.
bool append_string(std::string& into, std::string_view data, std::string_view mark) {
  const std::size_t start = value_at(data, mark);
  if (start == std::string_view::npos) return false;
  const std::string_view inside = string_inside(data, start);
  into += inside;
  return !inside.empty();
}

}  // namespace

void SentReply::record_event(std::string_view data) {
  if (data == "[DONE]") {
    complete_ = true;
    return;
  }
  begun_ = true;
  if (id_.empty()) {
    if (const auto at = value_at(data, R"("id":")"); at != std::string_view::npos) {
      id_.append("\"").append(string_inside(data, at)).append("\"");
    }
    if (const auto at = value_at(data, R"("created":)"); at != std::string_view::npos) {
      created_ = data.substr(at, data.find_first_not_of("0123456789", at) - at);
    }
  }
  tool_call_ = tool_call_ || has(data, R"("tool_calls":[{)");
  finished_ = finished_ || has(data, R"("finish_reason":")");
  usage_ = usage_ || has(data, R"("usage":{)");
  if (too_long_) return;
  const bool text =
      append_string(text_, data, R"("content":")") || append_string(text_, data, R"("text":")");
  // vLLM's name of it depends on the version; some send both.
  const bool reasoning = append_string(reasoning_, data, R"("reasoning_content":")") ||
                         append_string(reasoning_, data, R"("reasoning":")");
  if (text || reasoning) ++text_events_;
  if (text_.size() + reasoning_.size() > kMaxText) {
    too_long_ = true;
    text_ = reasoning_ = std::string();  // Gives the memory back, as clear() would not.
  }
}

void SentReply::record(std::string_view events) {
  while (!events.empty()) {
    const std::size_t end = events.find(kEventEnd);
    const std::string_view event = events.substr(0, end);
    if (event.starts_with(kData)) record_event(event.substr(kData.size()));
    events.remove_prefix(end == std::string_view::npos ? events.size() : end + kEventEnd.size());
  }
}

}  // namespace yoke::gateway
