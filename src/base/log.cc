#include "base/log.h"

#include <cstdlib>

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace yoke::log {
namespace {

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarning:
      return spdlog::level::warn;
    case Level::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

// sd-daemon(3): journald reads a "<N>" prefix as the line's priority.
std::string_view journal_prefix(Level level) {
  switch (level) {
    case Level::kDebug:
      return "<7>";
    case Level::kInfo:
      return "<6>";
    case Level::kWarning:
      return "<4>";
    case Level::kError:
      return "<3>";
  }
  return "<6>";
}

struct Logger {
  bool journal = std::getenv("JOURNAL_STREAM") != nullptr;
  std::shared_ptr<spdlog::logger> out = spdlog::stderr_color_mt("yoke");

  Logger() {
    out->set_pattern(journal ? "%v" : "%Y-%m-%d %H:%M:%S.%e %^%l%$ %v");
    out->flush_on(spdlog::level::debug);
  }
};

Logger& logger() {
  static Logger instance;
  return instance;
}

}  // namespace

void set_level(Level level) { logger().out->set_level(to_spdlog(level)); }

Result<Level> parse_level(std::string_view name) {
  if (name == "debug") return Level::kDebug;
  if (name == "info") return Level::kInfo;
  if (name == "warning") return Level::kWarning;
  if (name == "error") return Level::kError;
  return fail(kInvalidArgument, fmt::format("'{}' is no log level.", name),
              "Use debug, info, warning or error.");
}

bool enabled(Level level) { return logger().out->should_log(to_spdlog(level)); }

void write(Level level, std::string_view line) {
  Logger& log = logger();
  if (log.journal) {
    log.out->log(to_spdlog(level), "{}{}", journal_prefix(level), line);
  } else {
    log.out->log(to_spdlog(level), "{}", line);
  }
}

}  // namespace yoke::log
