#include "base/nearest.h"

#include <array>

#include <gtest/gtest.h>

namespace yoke {
namespace {

TEST(EditDistance, CountsInsertionsDeletionsSubstitutionsAndSwaps) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("abc", ""), 3u);
  EXPECT_EQ(edit_distance("n_ctxx", "n_ctx"), 1u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("lsiten", "listen"), 1u);
}

TEST(Nearest, FindsTheClosestNameAndNothingFarOff) {
  constexpr std::array<std::string_view, 3> kNames{"n_ctx", "n_batch", "n_ubatch"};
  EXPECT_EQ(nearest("n_ctxx", kNames), "n_ctx");
  EXPECT_EQ(nearest("n_bacth", kNames), "n_batch");
  EXPECT_EQ(nearest("temperature", kNames), std::nullopt);
  EXPECT_EQ(nearest("", kNames), std::nullopt);
}

}  // namespace
}  // namespace yoke
