#include "cli/input_history.h"

#include <fstream>
#include <sys/stat.h>
#include <unistd.h>

#include <gtest/gtest.h>

namespace yoke::cli {
namespace {

namespace fs = std::filesystem;

class InputHistoryTest : public testing::Test {
 protected:
  InputHistoryTest() {
    std::string pattern = (fs::temp_directory_path() / "yoke-history-XXXXXX").string();
    dir_ = ::mkdtemp(pattern.data());
  }
  ~InputHistoryTest() override { fs::remove_all(dir_); }

  fs::path dir_;
};

TEST_F(InputHistoryTest, KeepsLinesForTheUserAlone) {
  const fs::path file = dir_ / "new" / "history";
  InputHistory history(file);
  EXPECT_TRUE(history.load()->empty());
  ASSERT_TRUE(history.append("one"));
  ASSERT_TRUE(history.append("zwölf \"x\""));
  EXPECT_EQ(*InputHistory(file).load(), (std::vector<std::string>{"one", "zwölf \"x\""}));
  struct stat status{};
  ASSERT_EQ(::stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(InputHistoryTest, ForgetsTheOldest) {
  const fs::path file = dir_ / "history";
  {
    std::ofstream out(file);
    for (int i = 0; i < 2500; ++i) out << i << '\n';
  }
  const auto lines = InputHistory(file).load();
  ASSERT_EQ(lines->size(), 1000u);
  EXPECT_EQ(lines->front(), "1500");
  EXPECT_EQ(lines->back(), "2499");
  EXPECT_LT(fs::file_size(file), 5100u);
  EXPECT_EQ(*InputHistory(file).load(), *lines);
}

TEST_F(InputHistoryTest, SaysWhyItCannotWrite) {
  const auto appended = InputHistory(dir_).append("one");
  ASSERT_FALSE(appended);
  EXPECT_NE(appended.error().message.find(dir_.string()), std::string::npos);
}

}  // namespace
}  // namespace yoke::cli
