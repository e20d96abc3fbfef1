#include "rpc_pipeline/weight_hashes.h"

#include <array>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <sys/stat.h>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rpc_pipeline/file_test_support.h"

namespace rpc_pipeline {
namespace {

using ::testing::Eq;
using ::testing::Optional;

std::uint64_t hash_of(std::string_view text) { return fnv1a(std::as_bytes(std::span(text))); }

/// Changes the file until its time of change is another one: clocks of file systems tick slowly.
void change(const std::string& path, const std::string& text) {
  const auto before = WeightFile::open(path);
  while (before->unchanged()) {
    std::ofstream(path, std::ios::binary | std::ios::in | std::ios::out) << text;
  }
}

class WeightHashesTest : public ::testing::Test {
 protected:
  WeightHashesTest() {
    write_file(model_, noise(1000));
    range_ = range_of(model_, 10, 20);
  }

  const TempDir dir_;
  const std::string store_ = dir_.file("hashes");
  const std::string model_ = dir_.file("model.gguf");
  FileRange range_;
};

TEST(Fnv1a, GivesThePublishedValues) {
  EXPECT_EQ(hash_of(""), 0xcbf29ce484222325U);
  EXPECT_EQ(hash_of("a"), 0xaf63dc4c8601ec8cU);
  EXPECT_EQ(hash_of("b"), 0xaf63df4c8601f1a5U);
  EXPECT_EQ(hash_of("foobar"), 0x85944171f73967e8U);
  EXPECT_EQ(hash_of("chongo was here!\n"), 0x46810940eff5f915U);
}

TEST(Fnv1a, GoesOnFromAHash) {
  const std::string_view text = "foobar";
  EXPECT_EQ(fnv1a(std::as_bytes(std::span(text.substr(3))), hash_of(text.substr(0, 3))),
            0x85944171f73967e8U);
}

TEST(Fnv1a, OfSeveralStreamsIsThatOfEach) {
  for (std::size_t count = 0; count <= kStreamsTogether; ++count) {
    std::vector<std::string> texts;
    std::vector<HashedStream> streams;
    for (std::size_t i = 0; i < count; ++i) texts.push_back(noise(1000, i));
    for (const std::string& text : texts) {
      streams.push_back({.data = std::as_bytes(std::span(text)).data()});
    }
    fnv1a_together(streams, 333);
    fnv1a_together(streams, 0);
    fnv1a_together(streams, 667);
    for (std::size_t i = 0; i < count; ++i) {
      EXPECT_EQ(streams[i].hash, hash_of(texts[i]));
      EXPECT_EQ(streams[i].data, std::as_bytes(std::span(texts[i])).data() + 1000);
    }
  }
}

TEST_F(WeightHashesTest, RemembersOverAStart) {
  {
    WeightHashes hashes(store_);
    EXPECT_FALSE(hashes.find(range_));
    hashes.add(range_, 0x0123456789abcdef);
    hashes.add(range_of(model_, 0, 0), 7);
    EXPECT_THAT(hashes.find(range_), Optional(Eq(0x0123456789abcdefU)));
  }
  const WeightHashes hashes(store_);
  EXPECT_THAT(hashes.find(range_of(model_, 10, 20)), Optional(Eq(0x0123456789abcdefU)));
  EXPECT_THAT(hashes.find(range_of(model_, 0, 0)), Optional(Eq(7U)));
  EXPECT_FALSE(hashes.find(range_of(model_, 10, 21)));
  EXPECT_FALSE(hashes.find(range_of(model_, 11, 20)));
}

TEST_F(WeightHashesTest, WritesALineForEach) {
  WeightHashes(store_).add(range_, 255);
  EXPECT_EQ(read_file(store_), "1 00000000000000ff 1000 " +
                                   std::to_string(range_.file->changed_ns) + " 10 20 " + model_ +
                                   "\n");
  struct stat status{};
  ASSERT_EQ(::stat(store_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
}

TEST_F(WeightHashesTest, TakesTheLastOfSeveral) {
  {
    WeightHashes hashes(store_);
    hashes.add(range_, 1);
    hashes.add(range_, 2);
    EXPECT_THAT(hashes.find(range_), Optional(Eq(2U)));
  }
  EXPECT_THAT(WeightHashes(store_).find(range_), Optional(Eq(2U)));
}

TEST_F(WeightHashesTest, DoesNotCountForAFileThatChanged) {
  WeightHashes hashes(store_);
  hashes.add(range_, 1);

  change(model_, "x");  // Of the same size, in place.
  EXPECT_FALSE(hashes.find(range_of(model_, 10, 20)));

  // The time of modification can be set back.
  const auto modified = std::filesystem::last_write_time(model_);
  hashes.add(range_of(model_, 10, 20), 2);
  change(model_, "y");
  std::filesystem::last_write_time(model_, modified);
  EXPECT_FALSE(hashes.find(range_of(model_, 10, 20)));

  hashes.add(range_of(model_, 10, 20), 3);
  std::ofstream(model_, std::ios::app) << "longer";
  EXPECT_FALSE(hashes.find(range_of(model_, 10, 20)));

  std::filesystem::copy_file(model_, dir_.file("other.gguf"));
  EXPECT_FALSE(hashes.find(range_of(dir_.file("other.gguf"), 10, 20)));
}

TEST_F(WeightHashesTest, KeepsOddPaths) {
  for (const std::string name :
       {"two words", "line\nend", "back\\slash", "\\n", "\\", " x", "模型"}) {
    const std::string path = dir_.file(name);
    write_file(path, "abc");
    WeightHashes(store_).add(range_of(path, 0, 3), hash_of(name));
    EXPECT_THAT(WeightHashes(store_).find(range_of(path, 0, 3)), Optional(Eq(hash_of(name))))
        << name;
  }
}

TEST_F(WeightHashesTest, PassesOverDamagedLines) {
  const std::string rest = " 1000 " + std::to_string(range_.file->changed_ns) + " 10 20 " + model_;
  const std::string good = "1 00000000000000ff" + rest;
  write_file(store_, good + "\n");
  ASSERT_THAT(WeightHashes(store_).find(range_), Optional(Eq(255U)));

  const std::string changed = std::to_string(range_.file->changed_ns);
  for (const std::string& line :
       {std::string(), std::string(" "), std::string(100, '\0'), std::string("1"), "2" + good,
        "1" + rest, "1 ff" + rest, "1 00000000000000fg" + rest, "1 -0000000000000ff" + rest,
        "1  00000000000000ff" + rest, "x " + good, " " + good,
        "1 00000000000000ff 1000 " + changed + " 10 20 ", "1 00000000000000ff 1000 " + changed,
        "1 00000000000000ff -1000 " + changed + " 10 20 " + model_,
        "1 00000000000000ff 1000 99999999999999999999 10 20 " + model_,
        "1 00000000000000ff 25 " + changed + " 10 20 " + model_,
        "1 00000000000000ff 1000 " + changed + " 10 18446744073709551615 " + model_,
        "1 00000000000000ff 1000 " + changed + " 10 20 relative/path"}) {
    write_file(store_, line + "\n");
    EXPECT_FALSE(WeightHashes(store_).find(range_)) << line;
    write_file(store_, line + "\n" + good + "\n");
    EXPECT_THAT(WeightHashes(store_).find(range_), Optional(Eq(255U))) << line;
  }
}

TEST_F(WeightHashesTest, WritesOnAfterHalfALine) {
  const std::string whole =
      "1 00000000000000ff 1000 " + std::to_string(range_.file->changed_ns) + " 10 20 " + model_;
  write_file(store_, whole);  // Perhaps only the begin of a longer path.
  WeightHashes hashes(store_);
  EXPECT_FALSE(hashes.find(range_));
  hashes.add(range_of(model_, 30, 1), 1);
  hashes.add(range_of(model_, 31, 1), 2);

  const WeightHashes again(store_);
  EXPECT_THAT(again.find(range_of(model_, 30, 1)), Optional(Eq(1U)));
  EXPECT_THAT(again.find(range_of(model_, 31, 1)), Optional(Eq(2U)));
}

TEST_F(WeightHashesTest, KeepsWhatTwoWriteAtOnce) {
  constexpr int kEach = 500;
  {
    WeightHashes first(store_);
    WeightHashes second(store_);
    const auto write = [this](WeightHashes& hashes, std::uint64_t offset) {
      for (std::uint64_t i = 0; i < kEach; ++i) {
        hashes.add({.file = range_.file, .offset = offset, .size = i}, offset + i);
      }
    };
    std::jthread one(write, std::ref(first), 0);
    std::jthread other(write, std::ref(second), 1);
    std::jthread third(write, std::ref(second), 2);
  }
  const WeightHashes hashes(store_);
  for (std::uint64_t offset = 0; offset < 3; ++offset) {
    for (std::uint64_t i = 0; i < kEach; ++i) {
      ASSERT_THAT(hashes.find({.file = range_.file, .offset = offset, .size = i}),
                  Optional(Eq(offset + i)));
    }
  }
}

TEST_F(WeightHashesTest, DoesWithoutAFile) {
  for (const std::string& path : {std::string(), dir_.file("missing/hashes"), dir_.file(""),
                                  std::string("/dev/full"), std::string("/proc/version")}) {
    WeightHashes hashes(path);
    EXPECT_FALSE(hashes.find(range_)) << path;
    hashes.add(range_, 1);
    EXPECT_THAT(hashes.find(range_), Optional(Eq(1U))) << path;
  }
}

TEST_F(WeightHashesTest, DoesNotWaitForAPipe) {
  ASSERT_EQ(::mkfifo(store_.c_str(), 0600), 0);
  WeightHashes hashes(store_);
  hashes.add(range_, 1);
  EXPECT_THAT(hashes.find(range_), Optional(Eq(1U)));
}

TEST_F(WeightHashesTest, CutsALongFileToItsNewerHalf) {
  const std::string tail =
      " " + std::to_string(range_.file->changed_ns) + " 10 20 " + model_ + "\n";
  std::string text = "1 0000000000000001 1000" + tail;
  const std::string other = "1 0000000000000002 2000" + tail;
  while (text.size() <= WeightHashes::kMaxFileSize) text += other;
  text += "1 0000000000000003 3000" + tail;
  write_file(store_, text);

  const auto known = [this](const WeightHashes& hashes, std::uint64_t size) {
    const int none = -1;
    return hashes.find(
        {.file = std::make_shared<const WeightFile>(none, model_, size, range_.file->changed_ns),
         .offset = 10,
         .size = 20});
  };
  {
    WeightHashes hashes(store_);
    EXPECT_FALSE(known(hashes, 1000));
    EXPECT_THAT(known(hashes, 2000), Optional(Eq(2U)));
    EXPECT_THAT(known(hashes, 3000), Optional(Eq(3U)));
    hashes.add(range_of(model_, 0, 1), 4);
  }
  EXPECT_LE(std::filesystem::file_size(store_), WeightHashes::kMaxFileSize / 2 + 1000);
  const std::string kept = read_file(store_);
  EXPECT_TRUE(kept.starts_with("1 0000000000000002 "));
  const WeightHashes again(store_);
  EXPECT_THAT(known(again, 3000), Optional(Eq(3U)));
  EXPECT_THAT(again.find(range_of(model_, 0, 1)), Optional(Eq(4U)));
  // Nothing else is left in the directory.
  EXPECT_EQ(
      std::distance(
          std::filesystem::directory_iterator(std::filesystem::path(store_).parent_path()), {}),
      2);
}

TEST_F(WeightHashesTest, BoundsALongFileWithoutLines) {
  write_file(store_, std::string(WeightHashes::kMaxFileSize + 1, 'x'));
  WeightHashes hashes(store_);
  hashes.add(range_, 1);
  EXPECT_LT(std::filesystem::file_size(store_), 1000U);
  EXPECT_THAT(WeightHashes(store_).find(range_), Optional(Eq(1U)));
}

}  // namespace
}  // namespace rpc_pipeline
