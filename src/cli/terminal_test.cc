#include "cli/terminal.h"

#include <gtest/gtest.h>

namespace yoke::cli {
namespace {

TEST(Printable, LeavesTextAlone) {
  EXPECT_EQ(printable("a\tb\nc"), "a\tb\nc");
  EXPECT_EQ(printable("Zähle 하나 😀 é\u00a0x"), "Zähle 하나 😀 é\u00a0x");
}

TEST(Printable, TakesControlCharactersOut) {
  EXPECT_EQ(printable("a\rb\bc\x07\x7f"), "abc");
  EXPECT_EQ(printable(std::string("a\0b", 3)), "ab");
  // Changes the title, and asks the terminal to type something.
  EXPECT_EQ(printable("\x1b]0;title\x07\x1bPq"), "]0;titlePq");
  // U+009B is ESC [ in one character.
  EXPECT_EQ(printable("a\u009b2Jb\u0080"), "a2Jb");
}

TEST(Printable, TakesWholeControlSequencesOut) {
  EXPECT_EQ(printable("\x1b[1;31mred\x1b[0m"), "red");
  EXPECT_EQ(printable("\x1b[2J\x1b[H\x1b[?1049h"), "");
}

TEST(Printable, HoldsOnCutSequences) {
  EXPECT_EQ(printable("a\x1b"), "a");
  EXPECT_EQ(printable("a\x1b["), "a[");
  EXPECT_EQ(printable("a\x1b[31"), "a[31");
  EXPECT_EQ(printable("a\x1b[3\x1b[2Jb"), "a[3b");
  EXPECT_EQ(printable("\xc2"), "\xc2");
}

TEST(DisplayWidth, CountsCharactersNotBytes) {
  EXPECT_EQ(display_width(""), 0u);
  EXPECT_EQ(display_width("Zähler…"), 7u);
}

TEST(Terminal, StylesOnlyWhereItIsTaken) {
  EXPECT_EQ(Terminal{}.dim("x"), "x");
  EXPECT_EQ((Terminal{.tty = true, .styled = true, .width = 80}.dim("x")), "\x1b[2mx\x1b[0m");
}

}  // namespace
}  // namespace yoke::cli
