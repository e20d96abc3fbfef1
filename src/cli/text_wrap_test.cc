#include "cli/text_wrap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yoke::cli {
namespace {

using testing::ElementsAre;

TEST(Wrap, BreaksBetweenWords) {
  EXPECT_THAT(wrap("the quick brown fox", 10), ElementsAre("the quick", "brown fox"));
  EXPECT_THAT(wrap("the quick brown fox", 9), ElementsAre("the quick", "brown fox"));
  EXPECT_THAT(wrap("the quick brown fox", 8), ElementsAre("the", "quick", "brown", "fox"));
}

TEST(Wrap, LeavesLongWordsWhole) {
  EXPECT_THAT(wrap("see /sys/class/drm/card1/device now", 10),
              ElementsAre("see", "/sys/class/drm/card1/device", "now"));
}

TEST(Wrap, CountsCharactersInsteadOfBytes) {
  EXPECT_THAT(wrap("ääää öööö", 9), ElementsAre("ääää öööö"));
  EXPECT_THAT(wrap("ääää öööö", 8), ElementsAre("ääää", "öööö"));
}

TEST(Wrap, WithoutAWidthIsOneLine) {
  EXPECT_THAT(wrap("  one\n two\tthree ", 0), ElementsAre("one two three"));
  EXPECT_THAT(wrap("", 0), ElementsAre(""));
}

}  // namespace
}  // namespace yoke::cli
