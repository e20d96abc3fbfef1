// The output of a child: bytes to clean lines (LineSplitter), and the last lines of it (LogRing).
// Owned by what owns the child; all calls on the one thread of the control loop.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "io/task.h"
#include "io/wait_list.h"

namespace yoke::supervisor {

// A longer line is cut to this many bytes, the mark included.
inline constexpr std::size_t kMaxLineBytes = 8 * 1024;
inline constexpr std::string_view kCutMark = " …[cut]";

// Text that is safe in JSON and on a terminal: ANSI escape sequences and control characters are
// taken out, a tab becomes a space, and bytes that are no UTF-8 become U+FFFD.
std::string clean_text(std::string_view bytes);

// Cuts bytes that come in pieces into lines of clean text. LF, CR LF and CR (progress bars) end a
// line; what a lone CR ends is dropped if it is empty.
class LineSplitter {
 public:
  using Sink = std::function<void(std::string_view line)>;

  void feed(std::string_view bytes, const Sink& sink);
  // The end of the output: what came after the last line end is a line too.
  void finish(const Sink& sink);

 private:
  void add(std::string_view bytes);
  void emit(const Sink& sink);

  std::string line_;  // Raw bytes, at most kMaxLineBytes.
  bool too_long_ = false;
  bool after_cr_ = false;
};

struct LogLine {
  std::uint64_t seq = 0;  // 1 for a ring's first line; never used again.
  std::chrono::system_clock::time_point time;
  std::string text;
};

class LogRing {
 public:
  static constexpr std::size_t kDefaultBytes = 256 * 1024;

  // `max_bytes` bounds the memory of all lines together; the last line stays, whatever its size.
  explicit LogRing(boost::asio::any_io_executor executor, std::size_t max_bytes = kDefaultBytes);
  LogRing(const LogRing&) = delete;
  LogRing& operator=(const LogRing&) = delete;

  // Adds a line of clean text and wakes who waits; the line's number.
  std::uint64_t append(std::string_view line);

  // The last `count` lines that are still there, oldest first.
  std::vector<LogLine> tail(std::size_t count) const;
  // Those with a number above `seq`. If the first of them is not seq + 1, lines in between are
  // gone.
  std::vector<LogLine> since(std::uint64_t seq) const;

  std::uint64_t last_seq() const { return last_seq_; }  // 0 before the first line.
  std::uint64_t dropped() const { return last_seq_ - lines_.size(); }

  // Sleeps until there is a line above `seq`, the deadline, or cancellation; the caller looks
  // which. The ring must outlive it.
  io::Task<void> wait_beyond(std::uint64_t seq, std::chrono::steady_clock::time_point deadline);

 private:
  std::deque<LogLine> lines_;
  std::size_t max_bytes_;
  std::size_t bytes_ = 0;
  std::uint64_t last_seq_ = 0;
  io::WaitList changed_;
};

}  // namespace yoke::supervisor
