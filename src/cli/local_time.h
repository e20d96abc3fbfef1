// Times as people read them. Any thread, as long as nobody changes the environment.
#pragma once

#include <cstdint>
#include <string>

namespace yoke::cli {

// "2026-11-22 14:32:10" in the time zone of the user; "?" for what no calendar has.
std::string local_time(std::int64_t unix_ms);

}  // namespace yoke::cli
