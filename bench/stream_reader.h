// StreamReader: takes one streamed chat completion of the fake engine apart as it arrives, and
// checks that it is whole: every token once, in order, the text as the engine says it was. It knows
// HTTP only as far as these answers use it. One thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bench {

class StreamReader {
 public:
  explicit StreamReader(std::int64_t tokens);

  // The next bytes of the connection, read at `now_ns` of CLOCK_MONOTONIC. Appends the time that
  // each token in them was under way.
  void feed(std::string_view bytes, std::int64_t now_ns, std::vector<std::int64_t>& latencies_ns);

  bool ended() const { return state_ == State::kEnd; }

  // Tokens that did not come, or not in their place.
  std::int64_t lost() const { return expected_ - in_order_; }
  // The answer came to its end, and its text has the engine's checksum.
  bool intact() const { return ended() && checksum_matches_ && lost() == 0; }

 private:
  enum class State { kHead, kChunkSize, kChunk, kChunkEnd, kEnd };

  std::size_t consume(std::string_view bytes, std::int64_t now_ns, std::vector<std::int64_t>& out);
  void take_events(std::int64_t now_ns, std::vector<std::int64_t>& out);
  void take_event(std::string_view event, std::int64_t now_ns, std::vector<std::int64_t>& out);

  std::int64_t expected_;
  std::int64_t in_order_ = 0;
  std::uint64_t checksum_;
  bool checksum_matches_ = false;

  State state_ = State::kHead;
  std::string line_;    // The head, or a chunk's size, as far as it is here.
  std::string events_;  // The body, as far as it is no whole event.
  std::size_t chunk_left_ = 0;
};

}  // namespace bench
