// Titles, and values behind their labels, as text wrapped at the terminal's width. Owned by whoever
// writes it; one thread at a time.
#pragma once

#include <string>
#include <string_view>

#include "cli/terminal.h"

namespace yoke::cli {

// Foreign text as one line that can't drive the terminal.
std::string one_line(std::string_view text);

class Page {
 public:
  Page(const Terminal& terminal, std::size_t label_width)
      : terminal_(terminal), label_width_(label_width) {}

  // Behind an empty line, if there is something before it.
  void title(std::string_view text);
  // A value behind its label, in a column.
  void add(std::string_view label, std::string_view value);
  // More about the same.
  void more(std::string_view value);
  void line(std::string_view value);
  // As it is, to be copied.
  void verbatim(std::string_view value);

  const std::string& text() const { return text_; }

 private:
  void add_wrapped(std::string before, std::string_view value);

  Terminal terminal_;
  std::size_t label_width_;
  std::string text_;
};

}  // namespace yoke::cli
