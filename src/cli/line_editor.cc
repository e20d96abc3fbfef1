#include "cli/line_editor.h"

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <histedit.h>
#include <langinfo.h>

namespace yoke::cli {
namespace {

constexpr int kHistorySize = 1000;

// In a locale that is not UTF-8 libedit would refuse every other letter than A to Z.
void use_utf8() {
  std::setlocale(LC_CTYPE, "");
  if (std::string_view(::nl_langinfo(CODESET)) != "UTF-8") std::setlocale(LC_CTYPE, "C.UTF-8");
}

}  // namespace

struct LineEditor::Impl {
  EditLine* editor = nullptr;
  History* history = nullptr;
  std::string prompt;

  static Impl& of(EditLine* editor) {
    void* self = nullptr;
    ::el_get(editor, EL_CLIENTDATA, &self);
    return *static_cast<Impl*>(self);
  }
  static char* give_prompt(EditLine* editor) { return of(editor).prompt.data(); }
};

LineEditor::LineEditor() : impl_(std::make_unique<Impl>()) {
  use_utf8();
  impl_->history = ::history_init();
  HistEvent event;
  ::history(impl_->history, &event, H_SETSIZE, kHistorySize);
  ::history(impl_->history, &event, H_SETUNIQUE, 1);

  impl_->editor = ::el_init("yoke", stdin, stdout, stderr);
  EditLine* editor = impl_->editor;
  ::el_set(editor, EL_CLIENTDATA, impl_.get());
  ::el_set(editor, EL_EDITOR, "emacs");
  ::el_set(editor, EL_SIGNAL, 1);
  ::el_set(editor, EL_HIST, ::history, impl_->history);
  ::el_set(editor, EL_PROMPT, &Impl::give_prompt);
  ::el_set(editor, EL_BIND, "^R", "em-inc-search-prev", nullptr);
}

LineEditor::~LineEditor() {
  ::el_end(impl_->editor);
  ::history_end(impl_->history);
}

void LineEditor::add_history(const std::string& line) {
  HistEvent event;
  ::history(impl_->history, &event, H_ENTER, line.c_str());
}

LineEditor::Line LineEditor::read(std::string_view prompt) {
  impl_->prompt = prompt;
  int count = 0;
  errno = 0;
  const char* line = ::el_gets(impl_->editor, &count);
  // libedit hands a signal on to the handler that was there before, and gives up the line.
  if (line == nullptr && errno == EINTR) {
    std::fputs("^C\n", stdout);
    return {End::kInterrupted};
  }
  if (line == nullptr || count <= 0) return {End::kEndOfInput};
  std::string text(line, static_cast<std::size_t>(count));
  while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
  return {End::kLine, std::move(text)};
}

}  // namespace yoke::cli
