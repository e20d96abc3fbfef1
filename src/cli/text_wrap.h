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

// A value behind its label, as lines that each end with a newline; the further ones begin under the
// value. The value gets 20 columns at least. `width`: of the terminal, 0 for any.
std::string wrap_behind(std::string label, std::string_view value, std::size_t width);

}  // namespace yoke::cli
