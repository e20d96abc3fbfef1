// What an output stream can show, and text made safe for it. Plain values; any thread, except
// QuietInput, which changes the one terminal there is.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>
#include <termios.h>

#include "base/error.h"

namespace yoke::cli {

struct Terminal {
  bool tty = false;
  bool styled = false;  // Takes escape sequences, and the user has not set NO_COLOR.
  int width = 0;        // In columns; 0 if unknown.

  static Terminal of(std::FILE* stream);

  std::string dim(std::string_view text) const;
  std::string bold(std::string_view text) const;
};

// `text`, which came from a model, an engine or a server, without what could drive the terminal:
// control characters except line feed and tab, and whole colour sequences.
std::string printable(std::string_view text);

// Columns that UTF-8 text takes, one per code point.
std::size_t display_width(std::string_view text);

// "yoke: <message>" and the hint on a line of its own, on stderr.
void print_error(const Error& error);

// While it lives, what is typed on stdin's terminal is not shown; it waits for the next prompt.
class QuietInput {
 public:
  QuietInput();
  ~QuietInput();
  QuietInput(const QuietInput&) = delete;
  QuietInput& operator=(const QuietInput&) = delete;

 private:
  termios before_{};
  bool changed_ = false;
};

}  // namespace yoke::cli
