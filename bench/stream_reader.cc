#include "stream_reader.h"

#include <algorithm>
#include <charconv>

namespace bench {
namespace {

constexpr std::uint64_t kFnvBasis = 0xcbf29ce484222325;
constexpr std::uint64_t kFnvPrime = 0x100000001b3;

std::uint64_t fnv1a64(std::string_view bytes, std::uint64_t hash) {
  for (const char byte : bytes) {
    hash ^= static_cast<unsigned char>(byte);
    hash *= kFnvPrime;
  }
  return hash;
}

// What stands between `before` and the next `after`, or nothing.
std::string_view between(std::string_view text, std::string_view before, std::string_view after) {
  const std::size_t at = text.find(before);
  if (at == std::string_view::npos) return {};
  text.remove_prefix(at + before.size());
  return text.substr(0, text.find(after));
}

template <class T>
T number(std::string_view text, int base = 10) {
  T value{};
  std::from_chars(text.data(), text.data() + text.size(), value, base);
  return value;
}

}  // namespace

StreamReader::StreamReader(std::int64_t tokens) : expected_(tokens), checksum_(kFnvBasis) {}

void StreamReader::feed(std::string_view bytes, std::int64_t now_ns,
                        std::vector<std::int64_t>& latencies_ns) {
  while (!bytes.empty() && state_ != State::kEnd) {
    bytes.remove_prefix(consume(bytes, now_ns, latencies_ns));
  }
}

// Returns how many bytes it took.
std::size_t StreamReader::consume(std::string_view bytes, std::int64_t now_ns,
                                  std::vector<std::int64_t>& out) {
  if (state_ == State::kChunk) {
    const std::size_t taken = std::min(chunk_left_, bytes.size());
    events_.append(bytes.substr(0, taken));
    chunk_left_ -= taken;
    if (chunk_left_ == 0) state_ = State::kChunkEnd;
    take_events(now_ns, out);
    return taken;
  }
  const std::string_view end = state_ == State::kHead ? "\r\n\r\n" : "\r\n";
  // One byte at a time: the end may be split between two reads.
  line_.push_back(bytes.front());
  if (!line_.ends_with(end)) return 1;
  switch (state_) {
    case State::kHead:
      state_ = line_.starts_with("HTTP/1.1 200") ? State::kChunkSize : State::kEnd;
      break;
    case State::kChunkSize:
      chunk_left_ = number<std::size_t>(line_, 16);
      state_ = chunk_left_ > 0 ? State::kChunk : State::kEnd;
      break;
    default:
      state_ = State::kChunkSize;
  }
  line_.clear();
  return 1;
}

void StreamReader::take_events(std::int64_t now_ns, std::vector<std::int64_t>& out) {
  std::size_t begin = 0;
  for (std::size_t end; (end = events_.find("\n\n", begin)) != std::string::npos; begin = end + 2) {
    take_event(std::string_view(events_).substr(begin, end - begin), now_ns, out);
  }
  events_.erase(0, begin);
}

void StreamReader::take_event(std::string_view event, std::int64_t now_ns,
                              std::vector<std::int64_t>& out) {
  if (const auto sum = between(event, R"("fake_checksum":")", "\""); !sum.empty()) {
    checksum_matches_ = number<std::uint64_t>(sum, 16) == checksum_;
    return;
  }
  const std::string_view sent_at = between(event, R"("t":)", "}");
  if (sent_at.empty()) return;
  out.push_back(now_ns - number<std::int64_t>(sent_at));
  // "w<seed>-<index>-<check> "
  const std::string_view text = between(event, R"("content":")", "\"");
  checksum_ = fnv1a64(text, checksum_);
  if (number<std::int64_t>(between(text, "-", "-")) == in_order_) ++in_order_;
}

}  // namespace bench
