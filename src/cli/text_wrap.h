// Text laid out for a terminal. Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace yoke::cli {

// The lines of `text` when no line may be wider than `width` columns; words that are longer have a
// line of their own. A width of 0 means any. White space between words becomes one space. At least
// one line.
std::vector<std::string> wrap(std::string_view text, std::size_t width);

}  // namespace yoke::cli
