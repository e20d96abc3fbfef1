#include "contexts/slot_file.h"

#include <sys/stat.h>

#include <gtest/gtest.h>

#include "contexts/test_support.h"

namespace yoke::contexts {
namespace {

using testing::numbers;
using testing::slot_file_text;
using testing::words;

class SlotFileTest : public ::testing::Test {
 protected:
  Result<SlotFile> read(const std::string& text) {
    testing::write_file(dir_.path() / "f", text);
    return read_slot_file(dir_.path() / "f");
  }
  testing::TempDir dir_;
};

TEST_F(SlotFileTest, HoldsTheTokens) {
  const auto file = read(slot_file_text(numbers(5, 300), 1000));
  ASSERT_TRUE(file) << file.error().text();
  EXPECT_EQ(file->tokens, numbers(5, 300));
  EXPECT_EQ(file->bytes, 7 * 4 + 1200 + 1000u);
}

TEST_F(SlotFileTest, HoldsThemAsOlderEnginesWroteThem) {
  const auto file = read(words({0x67677371, 2, 3, 7, 8, 9, 0, 0}));
  ASSERT_TRUE(file) << file.error().text();
  EXPECT_EQ(file->tokens, (std::vector<std::int32_t>{7, 8, 9}));
}

TEST_F(SlotFileTest, CountsTokensUpToTheFirstImage) {
  const auto file = read(slot_file_text({1, 2, -1, -1, 3}, 10));
  ASSERT_TRUE(file) << file.error().text();
  EXPECT_EQ(file->tokens, (std::vector<std::int32_t>{1, 2}));
}

TEST_F(SlotFileTest, IsRefusedWhereverItIsCut) {
  const std::string whole = slot_file_text(numbers(0, 20), 0);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(read(whole.substr(0, size))) << size;
  }
}

TEST_F(SlotFileTest, IsRefusedIfItsHeaderLies) {
  EXPECT_FALSE(read(words({0x12345678, 3, 1, 5})));
  EXPECT_FALSE(read(words({0x67677371, 3, 0xffffffff, 5})));
  EXPECT_FALSE(read(words({0x67677371, 3, 2, 5})));
  EXPECT_FALSE(read(words({0x67677371, 3, 1, 0xffffffff})));
  EXPECT_FALSE(read(words({0x67677371, 3, 4, 0xffffffff, 2, 1, 5})));
  EXPECT_FALSE(read(words({0x67677371, 3, 4, 0xffffffff, 1, 2, 5})));
  EXPECT_FALSE(read(words({0x67677371, 3, 4, 0xffffffff, 1, 0xfffffff0, 5})));
}

TEST_F(SlotFileTest, IsARegularFile) {
  const auto path = dir_.path();
  EXPECT_FALSE(read_slot_file(path));
  EXPECT_FALSE(read_slot_file(path / "none"));
  testing::write_file(path / "real", slot_file_text(numbers(0, 5), 5));
  std::filesystem::create_symlink(path / "real", path / "link");
  EXPECT_FALSE(read_slot_file(path / "link"));
  ASSERT_EQ(::mkfifo((path / "pipe").c_str(), 0600), 0);
  EXPECT_FALSE(read_slot_file(path / "pipe"));
}

TEST(CommonBeginning, IsThatOfTheShorterAtMost) {
  EXPECT_EQ(common_beginning({}, {1}), 0u);
  EXPECT_EQ(common_beginning({1, 2, 3}, {1, 2}), 2u);
  EXPECT_EQ(common_beginning({1, 2, 3}, {1, 5, 3}), 1u);
}

}  // namespace
}  // namespace yoke::contexts
