// Reads lines from the terminal with editing and history (libedit). Owned by the chat; main thread
// only, and one at a time, since there is only one terminal.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace yoke::cli {

class LineEditor {
 public:
  enum class End {
    kLine,
    kInterrupted,  // Ctrl-C, if SIGINT has a handler: what had been typed is dropped.
    kEndOfInput,   // Ctrl-D on an empty line, or the terminal has gone.
  };
  struct Line {
    End end;
    std::string text{};  // Without the line feed.
  };

  // On stdin and stdout. Sets the process's character type locale, by which libedit tells
  // characters apart.
  LineEditor();
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  void add_history(const std::string& line);
  Line read(std::string_view prompt);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace yoke::cli
