#include "cli/detect.h"

#include <cstdlib>
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yoke::cli {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "yoke-detect-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

TEST(HardwareOptions, AskTheLibrariesOfThisMachine) {
  const auto options = hardware_options("", false);
  ASSERT_TRUE(options) << options.error().message;
  EXPECT_TRUE(options->files.is_this_machine());
  EXPECT_THAT(options->probes.command, ElementsAre("/proc/self/exe", "__probe"));
  EXPECT_THAT(options->probes.library_dirs, IsEmpty());
}

// Those of this machine would say nothing true about another.
TEST(HardwareOptions, AskNoLibrariesForACopy) {
  const TemporaryDirectory root;
  const auto options = hardware_options(root.path().string(), false);
  ASSERT_TRUE(options) << options.error().message;
  EXPECT_FALSE(options->files.is_this_machine());
  EXPECT_THAT(options->probes.command, IsEmpty());
}

TEST(HardwareOptions, AskTheLibrariesOfACopyWhereToldTo) {
  const TemporaryDirectory root;
  const auto options = hardware_options(root.path().string(), true);
  ASSERT_TRUE(options) << options.error().message;
  EXPECT_THAT(options->probes.command, ElementsAre("/proc/self/exe", "__probe"));
  EXPECT_THAT(options->probes.library_dirs, Contains(root.path() / "opt/rocm/lib"));
  for (const auto& dir : options->probes.library_dirs) {
    EXPECT_TRUE(dir.string().starts_with(root.path().string())) << dir;
  }
}

TEST(HardwareOptions, RefuseWhatIsNoDirectory) {
  const auto options = hardware_options("/proc/version", false);
  ASSERT_FALSE(options);
  EXPECT_EQ(options.error().code, kInvalidArgument);
}

}  // namespace
}  // namespace yoke::cli
