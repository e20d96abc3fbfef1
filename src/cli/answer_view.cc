#include "cli/answer_view.h"

#include <cerrno>
#include <cstring>

#include <fmt/format.h>

namespace yoke::cli {

void AnswerView::write(const std::string& text) {
  if (text.empty()) return;
  std::fwrite(text.data(), 1, text.size(), out_);
}

void AnswerView::clear_waiting() {
  if (waiting_shown_) write("\r\x1b[K");
  waiting_shown_ = false;
}

void AnswerView::enter(Part part) {
  if (part_ == Part::kReasoning && part == Part::kText) {
    write(at_line_start_ ? "\n" : "\n\n");
    at_line_start_ = true;
  }
  part_ = part;
}

void AnswerView::show(const Delta& delta) {
  if (!delta.reasoning.empty() && terminal_.tty) {
    const std::string text = printable(delta.reasoning);
    clear_waiting();
    enter(Part::kReasoning);
    write(terminal_.dim(text));
    if (!text.empty()) at_line_start_ = text.back() == '\n';
  }
  if (!delta.text.empty()) {
    std::string text = printable(delta.text);
    // Models put blank lines between what they think and what they say.
    if (part_ == Part::kReasoning) text.erase(0, text.find_first_not_of('\n'));
    if (text.empty()) return;
    clear_waiting();
    enter(Part::kText);
    write(text);
    at_line_start_ = text.back() == '\n';
  }
  std::fflush(out_);
}

void AnswerView::show_waiting(std::string_view text) {
  if (part_ != Part::kNothing || !terminal_.styled) return;
  write(fmt::format("\r{}\x1b[K", terminal_.dim(text)));
  std::fflush(out_);
  waiting_shown_ = true;
}

void AnswerView::finish() {
  clear_waiting();
  if (!at_line_start_) write("\n");
  at_line_start_ = true;
  std::fflush(out_);
}

void AnswerView::note(std::string_view text) {
  write(terminal_.dim(text) + "\n");
  std::fflush(out_);
}

Result<void> flush_stdout() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return {};
  return fail(kIo, fmt::format("Cannot write to standard output: {}.", std::strerror(errno)));
}

}  // namespace yoke::cli
