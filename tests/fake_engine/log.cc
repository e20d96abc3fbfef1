#include "fake_engine/log.h"

#include <cstdio>
#include <string>
#include <unistd.h>

#include "fake_engine/clock.h"

namespace fake_engine {
namespace {

LogFormat g_format;
const int64_t g_start_ns = monotonic_ns();

void write_to_stderr(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
    if (written <= 0) return;  // Nobody reads the log any more: go on without it.
    text.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace

void set_log_format(LogFormat format) { g_format = format; }

void log_line(char level, std::string_view text) {
  std::string line;
  if (g_format.prefix) {
    if (g_format.timestamps) {
      const int64_t us = (monotonic_ns() - g_start_ns) / 1000;
      char stamp[64];
      std::snprintf(stamp, sizeof stamp, "%d.%02d.%03d.%03d ", static_cast<int>(us / 60'000'000),
                    static_cast<int>(us / 1'000'000 % 60), static_cast<int>(us / 1000 % 1000),
                    static_cast<int>(us % 1000));
      line += stamp;
    }
    line += level;
    line += ' ';
  }
  line += text;
  line += '\n';
  write_to_stderr(line);
}

void log_raw(std::string_view text) {
  if (text.empty()) return;
  std::string line(text);
  if (line.back() != '\n') line += '\n';
  write_to_stderr(line);
}

}  // namespace fake_engine
