// The engines' output as others read it. Plain values; any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

namespace yoke::supervisor {

// A line of an engine's output.
struct LogEntry {
  std::string model;
  std::uint64_t seq = 0;  // Counts the lines of this model.
  std::chrono::system_clock::time_point time;
  std::string line;
};

// The lines that a reader of logs has seen: the last number by model.
using LogCursor = std::map<std::string, std::uint64_t>;

}  // namespace yoke::supervisor
