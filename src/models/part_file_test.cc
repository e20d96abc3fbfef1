#include "models/part_file.h"

#include <fstream>
#include <iterator>
#include <stdlib.h>

#include <gtest/gtest.h>

#include "models/pull.h"

namespace yoke::models {
namespace {

namespace fs = std::filesystem;

std::string content_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class PartFileTest : public ::testing::Test {
 protected:
  PartFileTest() {
    std::string pattern = (fs::temp_directory_path() / "yoke-part-XXXXXX").string();
    dir_ = ::mkdtemp(pattern.data());
    path_ = dir_ / "model.gguf";
  }
  ~PartFileTest() override { fs::remove_all(dir_); }

  // Half of ten bytes, saved.
  void begin() {
    auto part = PartFile::open(path_, identity_);
    ASSERT_TRUE(part);
    ASSERT_TRUE(part->write(0, "01234"));
    ASSERT_TRUE(part->save());
  }
  void write_state(const std::string& text) {
    std::ofstream(PartFile::state_path(path_), std::ios::binary) << text;
  }

  fs::path dir_;
  fs::path path_;
  Identity identity_{10, "sha256:abc"};
};

TEST_F(PartFileTest, FromBeginToEnd) {
  auto part = PartFile::open(path_, identity_);
  ASSERT_TRUE(part);
  EXPECT_FALSE(part->resumed());
  ASSERT_TRUE(part->write(5, "56789"));
  ASSERT_TRUE(part->write(0, "01234"));
  EXPECT_EQ(part->done().count(), 10);
  ASSERT_TRUE(part->finish());
  EXPECT_EQ(content_of(path_), "0123456789");
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_), {}), 1);
}

TEST_F(PartFileTest, GoesOn) {
  begin();
  auto part = PartFile::open(path_, identity_);
  ASSERT_TRUE(part);
  EXPECT_TRUE(part->resumed());
  EXPECT_EQ(part->done().gap(0, 10), (ByteRange{5, 5}));
  ASSERT_TRUE(part->write(5, "56789"));
  ASSERT_TRUE(part->finish());
  EXPECT_EQ(content_of(path_), "0123456789");
}

TEST_F(PartFileTest, WhatWasNotSavedIsNotThere) {
  begin();
  {
    auto part = PartFile::open(path_, identity_);
    ASSERT_TRUE(part->write(5, "56789"));
  }
  EXPECT_EQ(PartFile::open(path_, identity_)->done().count(), 5);
}

TEST_F(PartFileTest, AnotherIdentityBeginsAnew) {
  for (const Identity& other : {Identity{10, "sha256:def"}, Identity{11, "sha256:abc"}}) {
    begin();
    auto part = PartFile::open(path_, other);
    ASSERT_TRUE(part);
    EXPECT_TRUE(part->changed());
    EXPECT_EQ(part->done().count(), 0);
    EXPECT_FALSE(fs::exists(PartFile::state_path(path_)));
  }
}

TEST_F(PartFileTest, WithoutAMarkNothingIsKept) {
  auto part = PartFile::open(path_, {10, ""});
  ASSERT_TRUE(part->write(0, "01234"));
  ASSERT_TRUE(part->save());
  EXPECT_FALSE(fs::exists(PartFile::state_path(path_)));
  EXPECT_FALSE(PartFile::open(path_, {10, ""})->resumed());
}

TEST_F(PartFileTest, AStateThatNobodyCanGoBy) {
  for (const std::string text : {"", "{", "[]", "null", R"({"bytes":10,"mark":"sha256:abc"})",
                                 R"({"bytes":10,"mark":"sha256:abc","done":[[0,11]]})",
                                 R"({"bytes":10,"mark":"sha256:abc","done":[[5,5]]})",
                                 R"({"bytes":10,"mark":"sha256:abc","done":[[-1,5]]})",
                                 R"({"bytes":10,"mark":"sha256:abc","done":[[0,5,6]]})",
                                 R"({"bytes":10,"mark":"sha256:abc","done":[0,5]})",
                                 R"({"bytes":-10,"mark":"sha256:abc","done":[]})",
                                 R"({"bytes":10,"mark":7,"done":[[0,5]]})"}) {
    begin();
    write_state(text);
    auto part = PartFile::open(path_, identity_);
    ASSERT_TRUE(part) << text;
    EXPECT_EQ(part->done().count(), 0) << text;
  }
}

TEST_F(PartFileTest, APartThatWasCutBeginsAnew) {
  begin();
  fs::resize_file(PartFile::part_path(path_), 4);
  EXPECT_EQ(PartFile::open(path_, identity_)->done().count(), 0);
  begin();
  fs::remove(PartFile::part_path(path_));
  EXPECT_EQ(PartFile::open(path_, identity_)->done().count(), 0);
}

TEST_F(PartFileTest, TakesItsSpaceAtOnce) {
  constexpr std::uint64_t kSize = 1 << 20;
  EXPECT_EQ(PartFile::space_taken(path_), 0);
  const auto part = PartFile::open(path_, {kSize, "x"});
  EXPECT_EQ(fs::file_size(PartFile::part_path(path_)), kSize);
  EXPECT_GE(PartFile::space_taken(path_), kSize);
}

TEST_F(PartFileTest, ErrorsOfTheDisk) {
  EXPECT_EQ(write_error("/x", ENOSPC).code, kDiskFull);
  EXPECT_EQ(write_error("/x", EDQUOT).code, kDiskFull);
  EXPECT_EQ(write_error("/x", EACCES).code, kIo);
  const auto part = PartFile::open("/dev/full/x", identity_);
  ASSERT_FALSE(part);
  EXPECT_EQ(part.error().code, kIo);
}

}  // namespace
}  // namespace yoke::models
