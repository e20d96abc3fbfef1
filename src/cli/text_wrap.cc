#include "cli/text_wrap.h"

#include <algorithm>

#include "cli/terminal.h"

namespace yoke::cli {

std::vector<std::string> wrap(std::string_view text, std::size_t width) {
  constexpr std::string_view kSpace = " \t\r\n";
  std::vector<std::string> lines(1);
  for (std::size_t at = text.find_first_not_of(kSpace); at != std::string_view::npos;
       at = text.find_first_not_of(kSpace, at)) {
    const std::string_view word = text.substr(at, text.find_first_of(kSpace, at) - at);
    at += word.size();
    std::string& line = lines.back();
    const bool fits = width == 0 || display_width(line) + 1 + display_width(word) <= width;
    if (line.empty()) {
      line = word;
    } else if (fits) {
      line.append(" ").append(word);
    } else {
      lines.emplace_back(word);
    }
  }
  return lines;
}

std::string wrap_behind(std::string label, std::string_view value, std::size_t width) {
  constexpr std::size_t kLeast = 20;
  const std::size_t room = width == 0 ? 0 : std::max(width, label.size() + kLeast) - label.size();
  std::string text;
  for (const std::string& line : wrap(value, room)) {
    text += label + line;
    text.erase(text.find_last_not_of(' ') + 1);
    text += "\n";
    label.assign(label.size(), ' ');
  }
  return text;
}

}  // namespace yoke::cli
