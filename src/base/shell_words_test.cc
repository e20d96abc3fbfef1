#include "base/shell_words.h"

#include <gtest/gtest.h>

namespace yoke {
namespace {

TEST(ShellWords, PlainOnesStayAsTheyAre) {
  EXPECT_EQ(shell_quoted("/usr/bin/llama-server"), "/usr/bin/llama-server");
  EXPECT_EQ(shell_quoted("--n_ctx=4096"), "--n_ctx=4096");
}

TEST(ShellWords, OthersAreQuoted) {
  EXPECT_EQ(shell_quoted(""), "''");
  EXPECT_EQ(shell_quoted("two words"), "'two words'");
  EXPECT_EQ(shell_quoted("$HOME;`id`"), "'$HOME;`id`'");
  EXPECT_EQ(shell_quoted("it's"), "'it'\\''s'");
  EXPECT_EQ(shell_quoted("~"), "'~'");
}

TEST(ShellWords, ALineHasThemAll) {
  EXPECT_EQ(shell_line({"echo", "a b", "c"}), "echo 'a b' c");
  EXPECT_EQ(shell_line({}), "");
}

}  // namespace
}  // namespace yoke
