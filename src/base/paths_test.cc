#include "base/paths.h"

#include <cstdlib>

#include <gtest/gtest.h>

namespace yoke {
namespace {

class Paths : public testing::Test {
 protected:
  void SetUp() override {
    ::setenv("HOME", "/home/ada", 1);
    ::unsetenv("XDG_DATA_HOME");
    ::unsetenv("YOKE_ENGINE_DIR");
  }
};

TEST_F(Paths, FallBackToTheHomeDirectory) {
  EXPECT_EQ(data_dir(), "/home/ada/.local/share/yoke");
  EXPECT_EQ(model_dir(), "/home/ada/.local/share/yoke/models");
}

TEST_F(Paths, FollowTheEnvironmentIfItIsAbsolute) {
  ::setenv("XDG_DATA_HOME", "/srv/data", 1);
  EXPECT_EQ(data_dir(), "/srv/data/yoke");
  ::setenv("XDG_DATA_HOME", "data", 1);
  EXPECT_EQ(data_dir(), "/home/ada/.local/share/yoke");
}

TEST_F(Paths, ANamedEngineDirectoryComesFirst) {
  ::setenv("YOKE_ENGINE_DIR", "/opt/engines", 1);
  const auto dirs = engine_dirs();
  ASSERT_GE(dirs.size(), 3u);
  EXPECT_EQ(dirs.front(), "/opt/engines");
  EXPECT_EQ(dirs.back(), "/home/ada/.local/share/yoke/engines");
}

TEST_F(Paths, ExpandTheHomeDirectoryOnlyInFront) {
  EXPECT_EQ(expand_home("~/m.gguf"), "/home/ada/m.gguf");
  EXPECT_EQ(expand_home("~"), "/home/ada");
  EXPECT_EQ(expand_home("/a/~/b"), "/a/~/b");
  EXPECT_EQ(expand_home("~bob/x"), "~bob/x");
}

}  // namespace
}  // namespace yoke
