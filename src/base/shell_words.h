// Words as a POSIX shell takes them. Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace yoke {

// The word itself if a shell leaves it alone, else in single quotes.
std::string shell_quoted(std::string_view word);

// All of them in one line.
std::string shell_line(const std::vector<std::string>& words);

}  // namespace yoke
