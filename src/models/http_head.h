// The lines ahead of a body, as one answer. Pure; any thread.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

#include "models/http_client.h"

namespace yoke::models {

// Takes one line, with or without its end. A status line begins a new answer, as after a redirect,
// but what the hub said of the file it links to stays.
void read_head_line(std::string_view line, HttpHead& head);

// Of Retry-After, in seconds or as a date; never negative. `now` is for dates.
std::optional<std::chrono::seconds> parse_retry_after(std::string_view value,
                                                      std::chrono::system_clock::time_point now);

}  // namespace yoke::models
