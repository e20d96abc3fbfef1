#include "supervisor/history.h"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yoke::supervisor {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

const store::Time kNow =
    std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());

store::Case a_case(std::string backend = "vulkan") {
  return {"chat", "chat.gguf 12 34", std::move(backend), "llama.cpp 0.5.0", "RADV 25.2"};
}

store::Quarantine a_quarantine(store::Case of = a_case(), std::chrono::minutes left = 10min) {
  return {std::move(of), "gpu_hang", "It hung.", kNow, kNow + left, 2};
}

class HistoryTest : public testing::Test {
 protected:
  HistoryTest() {
    std::string name = (fs::temp_directory_path() / "yoke-history-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary directory");
    temporary_ = name;
  }
  ~HistoryTest() override { fs::remove_all(temporary_); }

  std::unique_ptr<History> open() {
    auto history = History::open(dir());
    EXPECT_TRUE(history) << history.error().text();
    return std::move(*history);
  }
  fs::path dir() const { return temporary_ / "state"; }

  fs::path temporary_;
};

// Every method does what it says.
void check_all(History& history) {
  EXPECT_FALSE(history.quarantine(a_case()));
  history.put(a_quarantine());
  history.put(a_quarantine(a_case("rocm"), -1min));
  EXPECT_EQ(history.quarantine(a_case())->count, 2);
  EXPECT_EQ(history.quarantine(a_case("rocm"))->until, kNow - 1min);
  EXPECT_FALSE(history.quarantine(a_case("cuda")));
  ASSERT_THAT(history.quarantines(kNow), SizeIs(1));
  EXPECT_EQ(history.quarantines(kNow).front().of, a_case());
  EXPECT_THAT(history.quarantines(kNow + 10min), IsEmpty());

  history.add({a_case(), "crash", "first", "", kNow});
  history.add({a_case(), "crash", "second", "", kNow});
  ASSERT_THAT(history.failures("chat", 20), SizeIs(2));
  EXPECT_EQ(history.failures("chat", 1).front().message, "second");

  EXPECT_FALSE(history.check(a_case()));
  history.put(store::CheckRecord{a_case(), false, 0.5, kNow});
  EXPECT_FALSE(history.check(a_case())->agreed);
  EXPECT_FALSE(history.reference("file", 9));
  history.put_reference("file", 9, "text");
  EXPECT_EQ(history.reference("file", 9), "text");
}

TEST_F(HistoryTest, RemembersFromOneStartToTheNext) {
  check_all(*open());
  const auto history = open();
  EXPECT_EQ(history->quarantine(a_case())->message, "It hung.");
  EXPECT_THAT(history->failures("chat", 20), SizeIs(2));
  EXPECT_TRUE(history->check(a_case()));
  EXPECT_EQ(history->reference("file", 9), "text");
}

TEST_F(HistoryTest, ClearsWhatIsInForceAndForgetsTheRest) {
  {
    const auto history = open();
    history->put(a_quarantine());
    history->put(a_quarantine(a_case("rocm"), -1min));
    EXPECT_EQ(history->clear("other", ""), 0u);
    EXPECT_EQ(history->clear("chat", ""), 1u);  // The other one was over.
    EXPECT_FALSE(history->quarantine(a_case("rocm")));
  }
  EXPECT_FALSE(open()->quarantine(a_case()));
}

TEST_F(HistoryTest, AnotherYokesDirectoryIsRefused) {
  const auto history = open();
  const auto second = History::open(dir());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, store::kStoreInUse);
  EXPECT_THAT(second.error().message, HasSubstr(dir().string()));
}

TEST_F(HistoryTest, GoesOnInMemoryWithoutADirectory) {
  std::ofstream(dir()) << "in the way";
  testing::internal::CaptureStderr();
  const auto history = open();
  check_all(*history);
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("remembered only until Yoke ends"));
  EXPECT_THAT(log.substr(log.find("until Yoke ends") + 1), Not(HasSubstr("until Yoke ends")));
}

// In a child, as the limit is for the whole process.
TEST_F(HistoryTest, GoesOnInMemoryWhenNothingCanBeWrittenAnyMore) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    const auto history = open();
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit nothing{0, 0};
    ::setrlimit(RLIMIT_FSIZE, &nothing);
    check_all(*history);
    ::_exit(HasFailure() ? 1 : 0);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_THAT(open()->quarantines(kNow), IsEmpty());
}

}  // namespace
}  // namespace yoke::supervisor
