// How a pull is shown while it goes on. Values; the clock is the caller's; one thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "cli/terminal.h"
#include "models/pull.h"

namespace yoke::cli {

// Bytes per second over the last seconds.
class RateMeter {
 public:
  using Clock = std::chrono::steady_clock;
  void add(Clock::time_point now, std::uint64_t done);
  // None as long as there is too little to go by.
  std::optional<double> bytes_per_second() const;

 private:
  struct Sample {
    Clock::time_point time;
    std::uint64_t done;
  };
  std::deque<Sample> samples_;
};

class PullView {
 public:
  using Clock = RateMeter::Clock;
  enum class Style { kBar, kLines, kJson };
  PullView(Style style, int width) : style_(style), width_(width) {}

  // What is to be written now, with line ends and all; empty: nothing.
  std::string progress(const models::PullProgress& progress, Clock::time_point now);
  std::string note(const std::string& text);
  // Before anything else is written: takes the bar away.
  std::string end();

 private:
  std::string bar(const models::PullProgress& progress) const;
  std::string line(const models::PullProgress& progress) const;
  std::string json(const models::PullProgress& progress) const;
  std::string numbers(const models::PullProgress& progress) const;
  std::optional<std::chrono::seconds> left(const models::PullProgress& progress) const;

  Style style_;
  int width_;
  RateMeter rate_;
  std::optional<Clock::time_point> shown_;
  bool checking_ = false;
  bool has_bar_ = false;
};

}  // namespace yoke::cli
