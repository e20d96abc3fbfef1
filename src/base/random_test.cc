#include "base/random.h"

#include <set>

#include <gtest/gtest.h>

namespace yoke {
namespace {

TEST(Random, HasTwoDigitsForEachByte) {
  const std::string text = random_hex(24);
  EXPECT_EQ(text.size(), 48u);
  EXPECT_EQ(text.find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_EQ(random_hex(0), "");
}

TEST(Random, IsNeverTheSame) {
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(random_hex(16));
  EXPECT_EQ(seen.size(), 1000u);
}

}  // namespace
}  // namespace yoke
