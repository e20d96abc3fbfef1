#include "cli/answer_view.h"

#include <memory>

#include <gtest/gtest.h>

namespace yoke::cli {
namespace {

// A stream in memory, and what was written to it.
class Screen {
 public:
  ~Screen() {
    std::fclose(file_);
    std::free(data_);
  }
  std::FILE* file() { return file_; }
  std::string text() {
    std::fflush(file_);
    return std::string(data_, size_);
  }

 private:
  char* data_ = nullptr;
  std::size_t size_ = 0;
  std::FILE* file_ = ::open_memstream(&data_, &size_);
};

constexpr Terminal kTerminal{.tty = true, .styled = true, .width = 80};

TEST(AnswerView, EndsTheLine) {
  Screen screen;
  AnswerView view(screen.file(), {});
  view.show({.text = "Hel"});
  view.show({.text = "lo"});
  view.finish();
  EXPECT_EQ(screen.text(), "Hello\n");
  view.show({.text = "again\n"});
  view.finish();
  EXPECT_EQ(screen.text(), "Hello\nagain\n");
}

TEST(AnswerView, PrintsNothingForNothing) {
  Screen screen;
  AnswerView view(screen.file(), {});
  view.show({});
  view.show_waiting("Waiting");
  view.finish();
  EXPECT_EQ(screen.text(), "");
}

TEST(AnswerView, DimsReasoningOnATerminal) {
  Screen screen;
  AnswerView view(screen.file(), kTerminal);
  view.show({.reasoning = "hm"});
  view.show({.text = "\n\nYes"});
  view.finish();
  EXPECT_EQ(screen.text(), "\x1b[2mhm\x1b[0m\n\nYes\n");
}

TEST(AnswerView, LeavesReasoningOutOfPipes) {
  Screen screen;
  AnswerView view(screen.file(), {});
  view.show({.reasoning = "hm"});
  view.show({.text = "Yes"});
  view.finish();
  EXPECT_EQ(screen.text(), "Yes\n");
}

TEST(AnswerView, TheAnswerTakesThePlaceOfTheWaiting) {
  Screen screen;
  AnswerView view(screen.file(), kTerminal);
  view.show_waiting("Waiting");
  view.show({.text = "Yes"});
  view.show_waiting("Waiting");
  view.finish();
  EXPECT_EQ(screen.text(), "\r\x1b[2mWaiting\x1b[0m\x1b[K\r\x1b[KYes\n");
}

TEST(AnswerView, NoModelDrivesTheTerminal) {
  Screen screen;
  AnswerView view(screen.file(), {});
  view.show({.text = "a\x1b]0;x\x07"});
  view.finish();
  EXPECT_EQ(screen.text(), "a]0;x\n");
}

}  // namespace
}  // namespace yoke::cli
