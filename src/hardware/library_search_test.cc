#include "hardware/library_search.h"

#include <cstdlib>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yoke::hardware {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

class LibrarySearch : public ::testing::Test {
 protected:
  LibrarySearch() {
    std::string name = (fs::temp_directory_path() / "yoke_search_XXXXXX").native();
    root_ = ::mkdtemp(name.data());
  }
  ~LibrarySearch() override { fs::remove_all(root_); }

  fs::path file(const char* name) {
    fs::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name) << "x";
    return root_ / name;
  }

  fs::path root_;
};

TEST_F(LibrarySearch, TheNewestVersionComesFirst) {
  const auto plain = file("libamd_smi.so");
  const auto of_24 = file("libamd_smi.so.24");
  const auto of_26 = file("libamd_smi.so.26");
  const auto of_100 = file("libamd_smi.so.100");
  const auto of_25_10 = file("libamd_smi.so.25.10");
  const auto of_25_9 = file("libamd_smi.so.25.9.1");
  EXPECT_THAT(find_libraries(Source::kAmdSmi, {root_}),
              ElementsAre(of_100, of_26, of_25_10, of_25_9, of_24, plain));
}

TEST_F(LibrarySearch, OtherNamesAreNoneOfIt) {
  for (const char* const name : {"libamd_smi.so.26-gdb.py", "libamd_smi.so.", "libamd_smi.so.x",
                                 "libamd_smi.so..26", "libamd_smi.so.26.", "libamd_smi.a",
                                 "xlibamd_smi.so", "libamd_smi.so.99999999999999999999"}) {
    file(name);
  }
  EXPECT_THAT(find_libraries(Source::kAmdSmi, {root_}), IsEmpty());
}

TEST_F(LibrarySearch, EachFileOnceWhateverLinksPointToIt) {
  file("libamdhip64.so.7.1.51831");
  fs::create_symlink("libamdhip64.so.7.1.51831", root_ / "libamdhip64.so.7");
  fs::create_symlink("libamdhip64.so.7", root_ / "libamdhip64.so");
  fs::create_directory_symlink(root_, root_ / "again");
  EXPECT_THAT(find_libraries(Source::kHip, {root_, root_ / "again"}),
              ElementsAre(root_ / "libamdhip64.so.7.1.51831"));
}

TEST_F(LibrarySearch, DriversLeftBehindAreNotTheInstalledOne) {
  file("libcuda.so.535.54");
  file("libcuda.so.999.1");
  EXPECT_THAT(find_libraries(Source::kCuda, {root_}), IsEmpty());
  fs::create_symlink("libcuda.so.535.54", root_ / "libcuda.so.1");
  EXPECT_THAT(find_libraries(Source::kCuda, {root_}), ElementsAre(root_ / "libcuda.so.1"));
}

TEST_F(LibrarySearch, DirectoriesKeepTheirOrder) {
  const auto older = file("a/libamdhip64.so.6");
  const auto newer = file("b/libamdhip64.so.7");
  EXPECT_THAT(find_libraries(Source::kHip, {root_ / "a", root_ / "none", root_ / "b"}),
              ElementsAre(older, newer));
}

TEST_F(LibrarySearch, WhatIsNoFileIsPassedOver) {
  fs::create_directories(root_ / "libvulkan.so.1");
  fs::create_symlink("libvulkan.so", root_ / "libvulkan.so");
  fs::create_symlink("nowhere", root_ / "libnvidia-ml.so.1");
  EXPECT_THAT(find_libraries(Source::kVulkan, {root_}), IsEmpty());
  EXPECT_THAT(find_libraries(Source::kNvml, {root_}), IsEmpty());
  EXPECT_THAT(find_libraries(Source::kDrm, {root_}), IsEmpty());
}

TEST_F(LibrarySearch, CandidatesAreFew) {
  for (int i = 0; i < 50; ++i) file(("libamd_smi.so." + std::to_string(i)).c_str());
  EXPECT_EQ(find_libraries(Source::kAmdSmi, {root_}).size(), 8u);
}

TEST_F(LibrarySearch, TheUsersPathComesFirst) {
  const char* const before = std::getenv("LD_LIBRARY_PATH");
  const std::string saved = before == nullptr ? "" : before;
  ::setenv("LD_LIBRARY_PATH", (root_.native() + "::relative:/opt/mine").c_str(), 1);
  const auto directories = system_library_directories();
  before == nullptr ? ::unsetenv("LD_LIBRARY_PATH") : ::setenv("LD_LIBRARY_PATH", saved.c_str(), 1);

  ASSERT_GE(directories.size(), 2u);
  EXPECT_EQ(directories[0], root_);
  EXPECT_EQ(directories[1], "/opt/mine");
  EXPECT_THAT(directories, Contains(fs::path("/usr/lib")));
  EXPECT_THAT(directories, Contains(fs::path("/opt/rocm/lib")));
  EXPECT_THAT(directories, Not(Contains(fs::path("relative"))));
  EXPECT_THAT(directories, Each(::testing::Property(&fs::path::is_absolute, true)));
}

}  // namespace
}  // namespace yoke::hardware
