// Sizes and durations as people write and read them. Pure; any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace yoke {

// "98.4 MB", "1.5 KB", "12 B": decimal units (1 MB = 10^6 bytes), as disks and downloads use.
std::string format_bytes(std::uint64_t bytes);

// "119.2 GiB", "512 MiB", "64 KiB", "12 B": binary units (1 GiB = 2^30 bytes), as memory comes.
std::string format_memory(std::uint64_t bytes);

// "120GiB", "64 MiB", "512MB", "4096" (bytes); fractions are taken ("1.5GiB"), signs are not.
Result<std::uint64_t> parse_bytes(std::string_view text);

// "1.03 T", "8.03 B", "134.5 M", "512": how many parameters there are.
std::string format_count(std::uint64_t count);

// "350 ms", "4.2 s", "3 min 20 s", "2 h 5 min", "3 d 4 h".
std::string format_duration(std::chrono::milliseconds duration);

// "250ms", "90s", "5m", "1h", "2d"; a bare number is seconds.
Result<std::chrono::milliseconds> parse_duration(std::string_view text);

}  // namespace yoke
