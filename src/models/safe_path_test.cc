#include "models/safe_path.h"

#include <gtest/gtest.h>

namespace yoke::models {
namespace {

TEST(SafePath, BelowItsDirectory) {
  EXPECT_EQ(*safe_path("/m", "a/b.gguf"), "/m/a/b.gguf");
  EXPECT_EQ(*safe_path("/m", "ü/..b..gguf"), "/m/ü/..b..gguf");
}

TEST(SafePath, NothingElse) {
  for (const std::string path : {"", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b",
                                 "a/./b", "a\\b", "a\nb", "a\x1b[2Jb", "a\x7f"}) {
    const auto result = safe_path("/m", path);
    ASSERT_FALSE(result) << path;
    EXPECT_EQ(result.error().code, kUnsafePath);
    EXPECT_EQ(result.error().message.find('\x1b'), std::string::npos);
  }
  EXPECT_FALSE(safe_path("/m", std::string_view("a\0b", 3)));
  EXPECT_FALSE(safe_path("/m", std::string(241, 'a')));
  EXPECT_TRUE(safe_path("/m", std::string(240, 'a')));
}

}  // namespace
}  // namespace yoke::models
