#include "io/file_watch.h"

#include <cstdlib>
#include <fstream>
#include <sys/resource.h>
#include <unistd.h>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

namespace yoke::io {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr FileWatch::Times kTimes{.quiet = 40ms, .poll = 20ms};
// So that only what the system tells counts.
constexpr FileWatch::Times kNoPolling{.quiet = 40ms, .poll = 1h};

// Nothing can be opened while it lives.
class NoDescriptors {
 public:
  NoDescriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit none{0, before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &none);
  }
  ~NoDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  NoDescriptors(const NoDescriptors&) = delete;
  NoDescriptors& operator=(const NoDescriptors&) = delete;

 private:
  rlimit before_{};
};

Task<void> count_changes(FileWatch& watch, int& count) {
  for (;;) {
    co_await watch.next_change();
    ++count;
  }
}

class FileWatchTest : public testing::Test {
 protected:
  FileWatchTest() {
    std::string pattern = (fs::temp_directory_path() / "yoke-watch-XXXXXX").string();
    dir_ = ::mkdtemp(pattern.data());
    file_ = dir_ / "yoke.toml";
  }
  ~FileWatchTest() override {
    watch_.reset();
    fs::remove_all(dir_);
  }

  static void write(const fs::path& file, const std::string& text) { std::ofstream(file) << text; }

  void watch(const fs::path& file, FileWatch::Times times = kNoPolling) {
    watch_.emplace(context_.get_executor(), file, times);
    boost::asio::co_spawn(
        context_, count_changes(*watch_, changes_),
        boost::asio::bind_cancellation_slot(cancel_.slot(),
                                            [this](const std::exception_ptr&) { ended_ = true; }));
    context_.restart();  // It has stopped if an earlier one ended.
    context_.poll();
  }

  // Whether there is another change soon.
  bool changes() {
    const int before = changes_;
    const auto deadline = Clock::now() + 10s;
    while (changes_ == before && Clock::now() < deadline) context_.run_one_for(100ms);
    return changes_ == before + 1 && stays_quiet();
  }

  // For longer than a change would take.
  bool stays_quiet(std::chrono::milliseconds time = 120ms) {
    const int before = changes_;
    const auto deadline = Clock::now() + time;
    while (Clock::now() < deadline) context_.run_one_until(deadline);
    return changes_ == before;
  }

  fs::path dir_;
  fs::path file_;
  boost::asio::io_context context_;
  std::optional<FileWatch> watch_;
  boost::asio::cancellation_signal cancel_;
  int changes_ = 0;
  bool ended_ = false;
};

TEST_F(FileWatchTest, TellsOfAFileThatIsWrittenAgain) {
  write(file_, "a");
  watch(file_);
  EXPECT_TRUE(stays_quiet());
  write(file_, "b");
  EXPECT_TRUE(changes());
  std::ofstream(file_, std::ios::app) << "c";
  EXPECT_TRUE(changes());
}

TEST_F(FileWatchTest, TellsOfAFileThatTakesItsPlace) {
  write(file_, "a");
  watch(file_);
  for (const char* text : {"b", "c"}) {
    write(dir_ / "yoke.toml~", text);
    fs::rename(dir_ / "yoke.toml~", file_);
    EXPECT_TRUE(changes());
  }
}

TEST_F(FileWatchTest, KnowsWhatWasThereWhenItWasMade) {
  write(file_, "a");
  watch_.emplace(context_.get_executor(), file_, kNoPolling);
  write(file_, "other");
  boost::asio::co_spawn(context_, count_changes(*watch_, changes_),
                        boost::asio::bind_cancellation_slot(cancel_.slot(), boost::asio::detached));
  EXPECT_TRUE(changes());
}

TEST_F(FileWatchTest, TakesManyChangesForOne) {
  write(file_, "a");
  watch(file_);
  const auto end = Clock::now() + 150ms;
  for (int i = 0; Clock::now() < end; ++i) {
    write(file_, std::string(static_cast<std::size_t>(i % 100), 'x'));
    context_.run_for(5ms);
    ASSERT_EQ(changes_, 0) << "not while it changes";
  }
  EXPECT_TRUE(changes());
}

TEST_F(FileWatchTest, DoesNotCareForOtherFiles) {
  write(file_, "a");
  watch(file_);
  write(dir_ / "other", "b");
  fs::create_directory(dir_ / "yoke.toml.d");
  fs::rename(dir_ / "other", dir_ / "another");
  EXPECT_TRUE(stays_quiet());
  write(file_, "bc");
  EXPECT_TRUE(changes());
}

TEST_F(FileWatchTest, WaitsUntilTheWriterHasClosed) {
  watch(file_);
  std::ofstream out(file_);
  out << "half" << std::flush;
  EXPECT_TRUE(stays_quiet(200ms));
  out << " and half" << std::flush;
  EXPECT_TRUE(stays_quiet(200ms));
  out.close();
  EXPECT_TRUE(changes());
}

TEST_F(FileWatchTest, AFileMayBeMissingForAWhile) {
  write(file_, "a");
  watch(file_);
  fs::remove(file_);
  EXPECT_TRUE(stays_quiet());
  write(file_, "b");
  EXPECT_TRUE(changes());
}

TEST_F(FileWatchTest, ADirectoryMayBeMissingForAWhile) {
  const fs::path below = dir_ / "below";
  watch(below / "yoke.toml", kTimes);
  EXPECT_TRUE(stays_quiet());
  fs::create_directory(below);
  write(below / "yoke.toml", "a");
  EXPECT_TRUE(changes());
  fs::remove_all(below);
  EXPECT_TRUE(stays_quiet());
  fs::create_directory(below);
  write(below / "yoke.toml", "b");
  EXPECT_TRUE(changes());
}

TEST_F(FileWatchTest, SeesItsDirectoryMovedAway) {
  const fs::path below = dir_ / "below";
  fs::create_directory(below);
  write(below / "yoke.toml", "a");
  watch(below / "yoke.toml", kTimes);
  fs::rename(below, dir_ / "away");
  EXPECT_TRUE(stays_quiet());
  fs::create_directory(below);
  write(below / "yoke.toml", "b");
  EXPECT_TRUE(changes());
  write(dir_ / "away/yoke.toml", "not this one");
  EXPECT_TRUE(stays_quiet());
}

// kubelet: yoke.toml -> ..data/yoke.toml, ..data -> ..1, and then a new ..data in its place.
TEST_F(FileWatchTest, FollowsTheLinksOfKubernetes) {
  const auto put = [&](const std::string& version) {
    fs::create_directory(dir_ / version);
    write(dir_ / version / "yoke.toml", version);
    fs::create_symlink(version, dir_ / "..data_tmp");
    fs::rename(dir_ / "..data_tmp", dir_ / "..data");
  };
  put("..1");
  fs::create_symlink("..data/yoke.toml", file_);
  watch(file_);
  for (const char* version : {"..2", "..3"}) {
    put(version);
    EXPECT_TRUE(changes()) << version;
  }
  write(dir_ / "..3/yoke.toml", "and the file itself");
  EXPECT_TRUE(changes());
  write(dir_ / "..1/yoke.toml", "not the old one");
  EXPECT_TRUE(stays_quiet());
}

TEST_F(FileWatchTest, FollowsAnAbsoluteLinkElsewhere) {
  fs::create_directories(dir_ / "real/sub");
  fs::create_directory(dir_ / "etc");
  write(dir_ / "real/sub/a.toml", "a");
  fs::create_symlink(dir_ / "real", dir_ / "way");
  fs::create_symlink(dir_ / "way/sub/../sub/a.toml", dir_ / "etc/yoke.toml");
  watch(dir_ / "etc/yoke.toml");
  write(dir_ / "real/sub/a.toml", "b!");
  EXPECT_TRUE(changes());
  write(dir_ / "real/b.toml", "c");
  fs::remove(dir_ / "etc/yoke.toml");
  fs::create_symlink(dir_ / "real/b.toml", dir_ / "etc/yoke.toml");
  EXPECT_TRUE(changes());
}

TEST_F(FileWatchTest, ALinkToItselfIsAMissingFile) {
  fs::create_symlink("yoke.toml", file_);
  watch(file_);
  EXPECT_TRUE(stays_quiet());
  fs::remove(file_);
  write(file_, "a");
  EXPECT_TRUE(changes());
}

// UBSan opens a pipe at its checks of types, and ends the program if it can't.
#ifndef __SANITIZE_ADDRESS__
TEST_F(FileWatchTest, LooksByItselfWhereTheSystemDoesNotTell) {
  write(file_, "a");
  const boost::asio::posix::stream_descriptor needs_epoll(context_);
  testing::internal::CaptureStderr();
  {
    const NoDescriptors limit;
    watch_.emplace(context_.get_executor(), file_, kTimes);
  }
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("yoke.toml is looked at every 20 ms"), std::string::npos) << log;
  EXPECT_NE(log.find("inotify_init1: Too many open files"), std::string::npos) << log;

  boost::asio::co_spawn(context_, count_changes(*watch_, changes_),
                        boost::asio::bind_cancellation_slot(cancel_.slot(), boost::asio::detached));
  EXPECT_TRUE(stays_quiet());
  write(file_, "b!");
  EXPECT_TRUE(changes());
}
#endif

TEST_F(FileWatchTest, EndsWhenItIsCancelled) {
  for (const bool there : {true, false}) {
    ended_ = false;
    watch(there ? dir_ / "a.toml" : dir_ / "missing/a.toml");
    cancel_.emit(boost::asio::cancellation_type::terminal);
    const auto deadline = Clock::now() + 5s;
    while (!ended_ && Clock::now() < deadline) context_.run_one_for(100ms);
    EXPECT_TRUE(ended_) << there;
  }
}

}  // namespace
}  // namespace yoke::io
