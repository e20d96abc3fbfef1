// Shows an answer while it comes. Owned by the command that asked; main thread only.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>

#include "base/result.h"
#include "cli/answer_reader.h"
#include "cli/terminal.h"

namespace yoke::cli {

class AnswerView {
 public:
  AnswerView(std::FILE* out, Terminal terminal) : out_(out), terminal_(terminal) {}

  // Reasoning is shown only on a terminal, dimmed.
  void show(const Delta& delta);
  // Before anything came: a line that says what is waited for, which the answer takes the place of.
  void show_waiting(std::string_view text);
  // The line ends here, whether the answer ended or not.
  void finish();
  // A dim line of its own.
  void note(std::string_view text);

 private:
  enum class Part { kNothing, kReasoning, kText };
  void write(const std::string& text);
  void enter(Part part);
  void clear_waiting();

  std::FILE* out_;
  Terminal terminal_;
  Part part_ = Part::kNothing;
  bool at_line_start_ = true;
  bool waiting_shown_ = false;
};

// kIo if something that was written to stdout got lost (a full disk).
Result<void> flush_stdout();

}  // namespace yoke::cli
