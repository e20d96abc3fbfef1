#include "supervisor/log_ring.h"

#include <algorithm>

#include <boost/asio/cancellation_type.hpp>

namespace yoke::supervisor {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
constexpr unsigned char kEscape = 0x1b;
constexpr unsigned char kBell = 0x07;

// What a line takes beside its text, so that a million empty lines are bounded as well.
constexpr std::size_t kLineOverhead = sizeof(LogLine);

bool in(unsigned char c, unsigned char low, unsigned char high) { return c >= low && c <= high; }

std::size_t skip_while_in(std::string_view text, std::size_t at, unsigned char low,
                          unsigned char high) {
  while (at < text.size() && in(static_cast<unsigned char>(text[at]), low, high)) ++at;
  return at;
}

// Behind a string that ends with BEL or ESC \ (titles, hyperlinks). One that never ends loses only
// its introducer, not the rest of the line.
std::size_t skip_control_string(std::string_view text, std::size_t at) {
  for (std::size_t i = at; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == kBell) return i + 1;
    if (c == kEscape) return i + 1 < text.size() && text[i + 1] == '\\' ? i + 2 : i;
  }
  return at;
}

// The position behind the escape sequence (ECMA-48) whose ESC stands before `at`.
std::size_t skip_escape(std::string_view text, std::size_t at) {
  if (at == text.size()) return at;
  const char kind = text[at];
  if (kind == '[') {
    at = skip_while_in(text, at + 1, 0x30, 0x3f);
    at = skip_while_in(text, at, 0x20, 0x2f);
    return at < text.size() && in(static_cast<unsigned char>(text[at]), 0x40, 0x7e) ? at + 1 : at;
  }
  if (std::string_view("]PX^_").find(kind) != std::string_view::npos) {
    return skip_control_string(text, at + 1);
  }
  at = skip_while_in(text, at, 0x20, 0x2f);
  return at < text.size() && in(static_cast<unsigned char>(text[at]), 0x30, 0x7e) ? at + 1 : at;
}

struct Sequence {
  std::size_t length;  // Of the character, or of the broken part that one U+FFFD stands for.
  bool valid;
};

// The UTF-8 sequence at `at` by the Unicode standard's table 3-7; the byte there is not ASCII.
Sequence utf8_at(std::string_view text, std::size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  std::size_t length = 0;
  unsigned char low = 0x80;
  unsigned char high = 0xbf;
  if (in(lead, 0xc2, 0xdf)) {
    length = 2;
  } else if (in(lead, 0xe0, 0xef)) {
    length = 3;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
  } else if (in(lead, 0xf0, 0xf4)) {
    length = 4;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
  } else {
    return {1, false};
  }
  for (std::size_t i = 1; i < length; ++i) {
    if (at + i == text.size()) return {i, false};
    if (!in(static_cast<unsigned char>(text[at + i]), low, high)) return {i, false};
    low = 0x80;
    high = 0xbf;
  }
  return {length, true};
}

// U+0080 to U+009F: control characters, which some terminals obey.
bool is_c1_control(std::string_view character) {
  return character.size() == 2 && character[0] == '\xc2' &&
         static_cast<unsigned char>(character[1]) < 0xa0;
}

// At most `limit` bytes of UTF-8 text, without half a character at the end.
std::string_view prefix(std::string_view text, std::size_t limit) {
  if (text.size() <= limit) return text;
  while (limit > 0 && in(static_cast<unsigned char>(text[limit]), 0x80, 0xbf)) --limit;
  return text.substr(0, limit);
}

std::string cut(std::string_view text) {
  std::string result(prefix(text, kMaxLineBytes - kCutMark.size()));
  result += kCutMark;
  return result;
}

}  // namespace

std::string clean_text(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  std::size_t at = 0;
  while (at < bytes.size()) {
    const auto c = static_cast<unsigned char>(bytes[at]);
    if (c == kEscape) {
      at = skip_escape(bytes, at + 1);
    } else if (c == '\t') {
      text += ' ';
      ++at;
    } else if (c < 0x20 || c == 0x7f) {
      ++at;
    } else if (c < 0x80) {
      text += bytes[at++];
    } else {
      const Sequence sequence = utf8_at(bytes, at);
      const std::string_view character = bytes.substr(at, sequence.length);
      if (!sequence.valid) {
        text += kReplacement;
      } else if (!is_c1_control(character)) {
        text += character;
      }
      at += sequence.length;
    }
  }
  return text;
}

void LineSplitter::feed(std::string_view bytes, const Sink& sink) {
  while (!bytes.empty()) {
    if (after_cr_) {
      after_cr_ = false;
      if (bytes.front() == '\n') {
        emit(sink);
        bytes.remove_prefix(1);
        continue;
      }
      if (!line_.empty()) emit(sink);
    }
    const std::size_t end = bytes.find_first_of("\r\n");
    add(bytes.substr(0, end));
    if (end == std::string_view::npos) return;
    if (bytes[end] == '\r') {
      after_cr_ = true;
    } else {
      emit(sink);
    }
    bytes.remove_prefix(end + 1);
  }
}

void LineSplitter::finish(const Sink& sink) {
  after_cr_ = false;
  if (!line_.empty()) emit(sink);
}

void LineSplitter::add(std::string_view bytes) {
  const std::size_t room = kMaxLineBytes - line_.size();
  if (bytes.size() > room) too_long_ = true;
  line_ += bytes.substr(0, room);
}

void LineSplitter::emit(const Sink& sink) {
  std::string text = clean_text(line_);
  if (too_long_ || text.size() > kMaxLineBytes) text = cut(text);
  line_.clear();
  too_long_ = false;
  sink(text);
}

LogRing::LogRing(boost::asio::any_io_executor executor, std::size_t max_bytes)
    : max_bytes_(max_bytes), changed_(std::move(executor)) {}

std::uint64_t LogRing::append(std::string_view line) {
  std::string text = line.size() > kMaxLineBytes ? cut(line) : std::string(line);
  bytes_ += text.size() + kLineOverhead;
  lines_.push_back({++last_seq_, std::chrono::system_clock::now(), std::move(text)});
  while (bytes_ > max_bytes_ && lines_.size() > 1) {
    bytes_ -= lines_.front().text.size() + kLineOverhead;
    lines_.pop_front();
  }
  changed_.notify_all();
  return last_seq_;
}

std::vector<LogLine> LogRing::tail(std::size_t count) const {
  const std::size_t from = lines_.size() - std::min(count, lines_.size());
  return {lines_.begin() + static_cast<std::ptrdiff_t>(from), lines_.end()};
}

std::vector<LogLine> LogRing::since(std::uint64_t seq) const {
  return tail(seq >= last_seq_ ? 0 : static_cast<std::size_t>(last_seq_ - seq));
}

io::Task<void> LogRing::wait_beyond(std::uint64_t seq,
                                    std::chrono::steady_clock::time_point deadline) {
  while (last_seq_ <= seq && std::chrono::steady_clock::now() < deadline) {
    const auto cancellation = co_await boost::asio::this_coro::cancellation_state;
    if (cancellation.cancelled() != boost::asio::cancellation_type::none) co_return;
    co_await changed_.wait_until(deadline);
  }
}

}  // namespace yoke::supervisor
