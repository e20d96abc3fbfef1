#include "cli/local_time.h"

#include <array>
#include <ctime>

namespace yoke::cli {

std::string local_time(std::int64_t unix_ms) {
  constexpr std::int64_t kYear10000 = 253'402'300'800'000;
  if (unix_ms < 0 || unix_ms >= kYear10000) return "?";
  const std::time_t seconds = unix_ms / 1000;
  std::tm fields{};
  std::array<char, 64> text{};
  if (::localtime_r(&seconds, &fields) == nullptr) return "?";
  const std::size_t size = std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &fields);
  return size > 0 ? std::string(text.data(), size) : "?";
}

}  // namespace yoke::cli
