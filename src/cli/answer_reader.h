// Reads the events of a streamed chat completion, and what they say about tokens and time. No I/O
// and no clock; one thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace yoke::cli {

// What one event adds to the answer.
struct Delta {
  std::string reasoning{};  // What the model thinks before it speaks.
  std::string text{};
};

struct AnswerStats {
  std::int64_t prompt_tokens = 0;
  std::int64_t tokens = 0;
  std::optional<double> tokens_per_s;
  std::optional<std::chrono::milliseconds> first_token;

  // "42 tokens, 95.3 tokens/s, first token after 120 ms"
  std::string describe() const;
};

class AnswerReader {
 public:
  using Clock = std::chrono::steady_clock;

  explicit AnswerReader(Clock::time_point asked) : asked_(asked) {}

  // One event's data, which came at `now`. The error that an event reports, with the code of
  // read_api_error(); http::kBadResponse for data of another form.
  Result<Delta> read(std::string_view data, Clock::time_point now);

  const std::string& text() const { return text_; }
  // Whether any of it came, reasoning included.
  bool begun() const { return first_.has_value(); }
  // Why the model ended ("stop", "length"); empty as long as it has not said so.
  const std::string& finish_reason() const { return finish_reason_; }
  // Of the answer so far. Without the server's own count an event counts as a token.
  AnswerStats stats() const;

 private:
  Clock::time_point asked_;
  std::optional<Clock::time_point> first_;
  Clock::time_point last_;
  std::int64_t pieces_ = 0;
  std::optional<std::int64_t> prompt_tokens_;
  std::optional<std::int64_t> tokens_;
  std::optional<double> tokens_per_s_;
  std::string text_;
  std::string finish_reason_;
};

// The sum of a conversation's answers.
class StatsTotal {
 public:
  void add(const AnswerStats& stats);
  std::string describe() const;

 private:
  int answers_ = 0;
  std::int64_t prompt_tokens_ = 0;
  std::int64_t tokens_ = 0;
  AnswerStats last_;
};

}  // namespace yoke::cli
