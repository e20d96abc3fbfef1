#include "supervisor/child_process.h"

#include <algorithm>
#include <fcntl.h>
#include <fstream>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdexcept>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/task_group.h"
#include "supervisor/process_tree.h"

namespace yoke::supervisor {
namespace {

using namespace std::chrono_literals;
namespace asio = boost::asio;
namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Clock = std::chrono::steady_clock;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

// Generous: a loaded machine, sanitizers.
constexpr auto kLimit = 30s;

std::size_t count_entries(const char* directory) {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

bool exists(pid_t pid) { return read_process(pid).has_value(); }

bool ended_within(const UniqueFd& pidfd, std::chrono::milliseconds limit) {
  pollfd ready{pidfd.get(), POLLIN, 0};
  return ::poll(&ready, 1, static_cast<int>(limit.count())) == 1;
}

io::Task<void> wait_into(ChildProcess& child, std::optional<ExitStatus>& out) {
  out = co_await child.wait();
}

io::Task<void> stop_into(ChildProcess& child, std::chrono::milliseconds grace,
                         std::optional<ExitStatus>& out) {
  out = co_await child.stop(grace);
}

class ChildProcessTest : public ::testing::Test {
 protected:
  // Every test must leave things as they were.
  void SetUp() override {
    // The first timer makes Asio open its own descriptors.
    asio::steady_timer timer(context, 1ms);
    timer.async_wait([](boost::system::error_code) {});
    context.run();
    descriptors_ = count_entries("/proc/self/fd");
  }
  void TearDown() override {
    child.reset();
    run_until([] { return false; }, 20ms);
    EXPECT_EQ(count_entries("/proc/self/fd"), descriptors_);
    EXPECT_THAT(descendants(::getpid()), IsEmpty());
  }

  void start(ChildSpec spec) {
    auto started = ChildProcess::spawn(context.get_executor(), std::move(spec),
                                       [this](std::string_view line) { lines.emplace_back(line); });
    if (!started) throw std::runtime_error(started.error().text());
    child = std::move(*started);
  }
  void start(std::vector<std::string> mode) {
    mode.insert(mode.begin(), YOKE_TEST_CHILD);
    start(ChildSpec{.argv = std::move(mode)});
  }
  void start_until_ready(std::vector<std::string> mode) {
    start(std::move(mode));
    if (!run_until([this] { return has_line("ready"); })) throw std::runtime_error("not ready");
  }

  template <class Condition>
  bool run_until(Condition condition, Clock::duration limit = kLimit) {
    const auto deadline = Clock::now() + limit;
    while (!condition() && Clock::now() < deadline) {
      context.restart();
      context.run_one_until(std::min(deadline, Clock::now() + 10ms));
    }
    return condition();
  }

  std::optional<ExitStatus> wait() {
    std::optional<ExitStatus> status;
    asio::co_spawn(context, wait_into(*child, status), asio::detached);
    run_until([&] { return status.has_value(); });
    return status;
  }

  std::optional<ExitStatus> stop(std::chrono::milliseconds grace) {
    std::optional<ExitStatus> status;
    asio::co_spawn(context, stop_into(*child, grace, status), asio::detached);
    run_until([&] { return status.has_value(); });
    return status;
  }

  bool has_line(std::string_view line) const {
    return std::find(lines.begin(), lines.end(), line) != lines.end();
  }

  // From the line "NAME PID"; 0 if there is none.
  pid_t pid_of(std::string_view name) const {
    for (const std::string& line : lines) {
      if (line.starts_with(name) && line.size() > name.size() + 1 && line[name.size()] == ' ') {
        return std::stoi(line.substr(name.size() + 1));
      }
    }
    return 0;
  }

  std::vector<pid_t> family() const {
    return {pid_of("child"), pid_of("session"), pid_of("orphan"), pid_of("parent"),
            pid_of("grandchild")};
  }

  void expect_no_family() const {
    for (const pid_t pid : family()) {
      EXPECT_NE(pid, 0);
      EXPECT_FALSE(exists(pid)) << pid;
    }
  }

  asio::io_context context;
  std::vector<std::string> lines;
  std::unique_ptr<ChildProcess> child;

 private:
  std::size_t descriptors_ = 0;
};

// How a child ends.

TEST_F(ChildProcessTest, TellsTheExitCode) {
  start({"exit", "7"});
  EXPECT_EQ(wait(), (ExitStatus{7, 0}));
  EXPECT_FALSE(child->running());
  EXPECT_EQ(child->exit_status(), (ExitStatus{7, 0}));
}

TEST_F(ChildProcessTest, TellsTheSignal) {
  start({"abort"});
  EXPECT_EQ(wait(), (ExitStatus{0, SIGABRT}));
  start({"segv"});
  EXPECT_EQ(wait(), (ExitStatus{0, SIGSEGV}));
}

TEST_F(ChildProcessTest, RunsUntilItEnds) {
  start_until_ready({"exit-on-term", "3"});
  EXPECT_TRUE(child->running());
  EXPECT_TRUE(exists(child->pid()));
  child->signal(SIGTERM);
  EXPECT_EQ(wait(), (ExitStatus{3, 0}));
  child->signal(SIGTERM);
}

TEST_F(ChildProcessTest, AnyNumberMayWait) {
  start_until_ready({"sleep"});
  std::vector<std::optional<ExitStatus>> statuses(20);
  for (auto& status : statuses) {
    asio::co_spawn(context, wait_into(*child, status), asio::detached);
  }
  run_until([] { return false; }, 20ms);
  EXPECT_THAT(statuses, ::testing::Each(std::nullopt));
  child->signal(SIGKILL);
  EXPECT_EQ(wait(), (ExitStatus{0, SIGKILL}));
  context.poll();
  EXPECT_THAT(statuses, ::testing::Each(ExitStatus{0, SIGKILL}));
  EXPECT_EQ(wait(), (ExitStatus{0, SIGKILL})) << "also afterwards";
}

TEST_F(ChildProcessTest, AWaitCanBeCancelled) {
  start_until_ready({"sleep"});
  std::optional<ExitStatus> status;
  io::TaskGroup group(context.get_executor());
  group.spawn(wait_into(*child, status));
  context.poll();
  group.cancel();
  EXPECT_TRUE(run_until([&] { return group.size() == 0; }));
  EXPECT_TRUE(child->running());
}

TEST_F(ChildProcessTest, DestructionEndsAWait) {
  start_until_ready({"sleep"});
  std::optional<ExitStatus> status;
  asio::co_spawn(context, wait_into(*child, status), asio::detached);
  context.poll();
  child.reset();
  EXPECT_TRUE(run_until([&] { return status.has_value(); }));
  EXPECT_EQ(status, (ExitStatus{0, SIGKILL}));
}

// What a child writes.

TEST_F(ChildProcessTest, HandsOutBothStreamsInOrder) {
  start({"lines", "2"});
  EXPECT_EQ(wait(), ExitStatus{});
  EXPECT_THAT(lines, ElementsAre("out 1", "err 1", "out 2", "err 2"));
}

TEST_F(ChildProcessTest, HandsOutALineWithoutAnEnd) {
  start({"partial"});
  EXPECT_EQ(wait(), ExitStatus{});
  EXPECT_THAT(lines, ElementsAre("no line end"));
}

TEST_F(ChildProcessTest, LosesNothingOfAFlood) {
  start({"flood", "10000000"});
  EXPECT_EQ(wait(), ExitStatus{});
  ASSERT_GT(lines.size(), 100'000u);
  EXPECT_EQ(lines.back(), fmt::format("wrote {} lines", lines.size() - 1));
  for (std::size_t i = 0; i + 1 < lines.size(); ++i) {
    ASSERT_TRUE(lines[i].starts_with(fmt::format("{} x", i))) << lines[i];
  }
}

TEST_F(ChildProcessTest, HandsOutNothingOnceItIsGone) {
  start({"lines", "100"});
  const UniqueFd pidfd = open_pidfd(child->pid());
  ASSERT_TRUE(ended_within(pidfd, kLimit));
  child.reset();
  run_until([] { return false; }, 20ms);
  EXPECT_THAT(lines, IsEmpty());
}

// What a child starts with.

TEST_F(ChildProcessTest, StartsItWithACleanSlate) {
  // Yoke may itself have been started with signals ignored or blocked, and may hold a descriptor
  // that lacks close-on-exec.
  const UniqueFd inherited(::open("/dev/null", O_RDONLY));
  const auto usual = ::signal(SIGUSR1, SIG_IGN);
  sigset_t blocked;
  sigset_t before;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGUSR2);
  ::pthread_sigmask(SIG_BLOCK, &blocked, &before);
  const fs::path directory = fs::temp_directory_path();
  start(ChildSpec{.argv = {YOKE_TEST_CHILD, "report"},
                  .env = {{"YOKE_TEST_VALUE", "a=b c"}, {"HOME", "set"}},
                  .working_dir = directory});
  EXPECT_EQ(wait(), ExitStatus{});
  ::signal(SIGUSR1, usual);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  EXPECT_THAT(lines, ElementsAre("value a=b c", "home set",
                                 "directory " + fs::canonical(directory).string(), "leads 1",
                                 "input empty", "descriptors 0 1 2", "SigBlk: 0000000000000000",
                                 "SigIgn: 0000000000000000", "oom 500"));
}

TEST_F(ChildProcessTest, KeepsFromItWhatIsToBeDropped) {
  ::setenv("YOKE_TEST_VALUE", "inherited", 1);
  start(ChildSpec{.argv = {YOKE_TEST_CHILD, "report"}});
  EXPECT_EQ(wait(), ExitStatus{});
  EXPECT_THAT(lines, Contains("value inherited"));
  lines.clear();
  start(ChildSpec{.argv = {YOKE_TEST_CHILD, "report"}, .drop_env_prefixes = {"YOKE_TEST_"}});
  EXPECT_EQ(wait(), ExitStatus{});
  EXPECT_THAT(lines, Contains("value (none)"));
  ::unsetenv("YOKE_TEST_VALUE");
}

TEST_F(ChildProcessTest, LeavesYokesOwnSignalMaskAlone) {
  sigset_t before;
  sigset_t after;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &before);
  start({"exit", "0"});
  ::pthread_sigmask(SIG_SETMASK, nullptr, &after);
  for (int number = 1; number < NSIG; ++number) {
    EXPECT_EQ(::sigismember(&before, number), ::sigismember(&after, number)) << number;
  }
}

TEST_F(ChildProcessTest, ARelativeProgramCountsFromWhereYokeIs) {
  const fs::path relative = fs::relative(YOKE_TEST_CHILD);
  start(ChildSpec{.argv = {relative.string(), "exit", "4"}, .working_dir = "/"});
  EXPECT_EQ(wait(), (ExitStatus{4, 0}));
}

// What can't be started.

class Refused : public ChildProcessTest {
 protected:
  std::string text_of(ChildSpec spec) {
    const auto started = ChildProcess::spawn(context.get_executor(), std::move(spec), nullptr);
    if (started) return "started";
    EXPECT_EQ(started.error().code, kSpawnFailed);
    return started.error().text();
  }

  fs::path file(const std::string& content, int mode) {
    const fs::path path = directory_ / "program";
    fs::remove(path);
    std::ofstream(path) << content;
    ::chmod(path.c_str(), static_cast<mode_t>(mode));
    return path;
  }

  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "yoke-child-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    ChildProcessTest::SetUp();
  }
  void TearDown() override {
    ChildProcessTest::TearDown();
    fs::remove_all(directory_);
  }

  fs::path directory_;
};

TEST_F(Refused, AProgramThatIsNotThere) {
  EXPECT_EQ(text_of({.argv = {"/no/such/program"}}),
            "The program '/no/such/program' was not found. Check the path, or install it.");
}

TEST_F(Refused, AProgramThatMayNotBeRun) {
  EXPECT_THAT(text_of({.argv = {file("#!/bin/sh\n", 0644).string()}}), HasSubstr("may not be run"));
  EXPECT_THAT(text_of({.argv = {directory_.string()}}), HasSubstr("may not be run"));
}

TEST_F(Refused, AProgramForAnotherMachine) {
  EXPECT_THAT(text_of({.argv = {file("\x7f"
                                     "ELF is all there is",
                                     0755)
                                    .string()}}),
              HasSubstr("no program that this machine can run"));
  EXPECT_THAT(text_of({.argv = {file("#!/no/such/interpreter\n", 0755).string()}}),
              HasSubstr("loader or interpreter"));
}

TEST_F(Refused, AWorkingDirectoryThatIsNotThere) {
  EXPECT_THAT(text_of({.argv = {YOKE_TEST_CHILD, "exit"}, .working_dir = "/no/such/directory"}),
              HasSubstr("working directory '/no/such/directory' can't be entered: No such file"));
}

TEST_F(Refused, WhatIsNoCommand) {
  EXPECT_THAT(text_of({.argv = {}}), HasSubstr("no program"));
  EXPECT_THAT(text_of({.argv = {""}}), HasSubstr("no program"));
  EXPECT_THAT(text_of({.argv = {YOKE_TEST_CHILD, std::string("a\0b", 3)}}), HasSubstr("NUL"));
  EXPECT_THAT(text_of({.argv = {YOKE_TEST_CHILD}, .env = {{"A=B", "c"}}}), HasSubstr("'A=B'"));
}

TEST_F(Refused, MoreThanTheMachineHas) {
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  rlimit lower = limit;
  lower.rlim_cur = count_entries("/proc/self/fd") + 1;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &lower), 0);
  const std::string text = text_of({.argv = {YOKE_TEST_CHILD, "exit"}});
  ::setrlimit(RLIMIT_NOFILE, &limit);
  EXPECT_THAT(text, HasSubstr("Raise the limit of open files"));
}

// How a child is stopped.

TEST_F(ChildProcessTest, StopLetsItEndByItself) {
  start_until_ready({"exit-on-term", "3"});
  const auto begin = Clock::now();
  EXPECT_EQ(stop(60s), (ExitStatus{3, 0}));
  EXPECT_LT(Clock::now() - begin, kLimit);
  EXPECT_TRUE(has_line("terminated")) << "its last words are handed out";
}

TEST_F(ChildProcessTest, StopKillsAfterTheGrace) {
  start_until_ready({"ignore-term"});
  const auto begin = Clock::now();
  EXPECT_EQ(stop(150ms), (ExitStatus{0, SIGKILL}));
  EXPECT_GE(Clock::now() - begin, 150ms);
}

TEST_F(ChildProcessTest, StopWithoutGraceKills) {
  start_until_ready({"exit-on-term"});
  EXPECT_EQ(stop(0ms), (ExitStatus{0, SIGKILL}));
  EXPECT_FALSE(has_line("terminated"));
}

TEST_F(ChildProcessTest, ASecondStopMayHurryTheFirst) {
  start_until_ready({"ignore-term"});
  std::optional<ExitStatus> first;
  asio::co_spawn(context, stop_into(*child, 1h, first), asio::detached);
  context.poll();
  EXPECT_TRUE(child->running());
  EXPECT_EQ(stop(10ms), (ExitStatus{0, SIGKILL}));
  context.poll();
  EXPECT_EQ(first, (ExitStatus{0, SIGKILL}));
  EXPECT_EQ(stop(1h), (ExitStatus{0, SIGKILL})) << "nothing left to stop";
}

TEST_F(ChildProcessTest, AStopGoesOnWhenItsCallerIsCancelled) {
  start_until_ready({"ignore-term"});
  std::optional<ExitStatus> status;
  io::TaskGroup group(context.get_executor());
  group.spawn(stop_into(*child, 100ms, status));
  context.poll();
  group.cancel();
  EXPECT_TRUE(run_until([&] { return group.size() == 0; }));
  EXPECT_TRUE(child->running());
  EXPECT_TRUE(run_until([&] { return !child->running(); }));
}

TEST_F(ChildProcessTest, StopReturnsWhenNothingOfTheTreeIsLeft) {
  start_until_ready({"family"});
  for (const pid_t pid : family()) EXPECT_TRUE(exists(pid)) << pid;
  EXPECT_EQ(stop(100ms), (ExitStatus{0, SIGTERM})) << "the child obeys, its helpers don't";
  expect_no_family();
}

TEST_F(ChildProcessTest, HelpersHaveTheRestOfTheGrace) {
  start_until_ready({"slow-helper"});
  EXPECT_EQ(stop(kLimit), (ExitStatus{0, SIGTERM}));
  EXPECT_TRUE(has_line("tidied up"));
}

// What a child leaves behind.

TEST_F(ChildProcessTest, ItsTreeGoesWithIt) {
  start({"family", "5"});
  EXPECT_EQ(wait(), (ExitStatus{5, 0}));
  expect_no_family();
}

TEST_F(ChildProcessTest, ItsTreeGoesAlsoWhenItIsKilled) {
  start_until_ready({"family"});
  child->signal(SIGKILL);
  EXPECT_EQ(wait(), (ExitStatus{0, SIGKILL}));
  expect_no_family();
}

TEST_F(ChildProcessTest, DestructionKillsAndReapsTheTree) {
  start_until_ready({"family"});
  child.reset();
  expect_no_family();
  EXPECT_THAT(descendants(::getpid()), IsEmpty());
}

TEST_F(ChildProcessTest, DestructionNeedsNoRunningContext) {
  {
    asio::io_context other;
    auto started =
        ChildProcess::spawn(other.get_executor(), {.argv = {YOKE_TEST_CHILD, "sleep"}}, {});
    ASSERT_TRUE(started);
    other.poll();
    started->reset();
  }
  EXPECT_THAT(descendants(::getpid()), IsEmpty());
}

TEST_F(ChildProcessTest, AnotherTreeIsLeftAlone) {
  start_until_ready({"family"});
  const std::unique_ptr<ChildProcess> first = std::move(child);
  const std::vector<pid_t> first_family = family();
  lines.clear();
  start_until_ready({"family"});
  EXPECT_EQ(stop(0ms), (ExitStatus{0, SIGKILL}));
  expect_no_family();
  EXPECT_TRUE(first->running());
  for (const pid_t pid : first_family) EXPECT_TRUE(exists(pid)) << pid;
}

TEST_F(ChildProcessTest, TheEndOfAnotherTreeDoesNotCostTheExitStatus) {
  start_until_ready({"family"});
  std::unique_ptr<ChildProcess> first = std::move(child);
  start({"exit", "7"});
  const UniqueFd pidfd = open_pidfd(child->pid());
  ASSERT_TRUE(ended_within(pidfd, kLimit));
  first.reset();  // Looks for its orphans while the other child is dead and not yet reaped.
  EXPECT_EQ(wait(), (ExitStatus{7, 0}));
}

TEST_F(ChildProcessTest, OrphansThatEndByThemselvesAreReaped) {
  start_until_ready({"short-lived-orphan"});
  const pid_t orphan = pid_of("orphan");
  ASSERT_TRUE(run_until([&] {
    const auto process = read_process(orphan);
    return process && process->state == 'Z' && process->parent == ::getpid();
  }));
  EXPECT_EQ(stop(kLimit), (ExitStatus{0, SIGTERM}));
  EXPECT_FALSE(exists(orphan));
}

TEST_F(ChildProcessTest, ChildrenOfOtherCodeAreNotReaped) {
  const pid_t other = ::fork();
  if (other == 0) ::_exit(5);
  const UniqueFd pidfd = open_pidfd(other);
  ASSERT_TRUE(ended_within(pidfd, kLimit));
  start({"family", "0"});
  EXPECT_EQ(wait(), ExitStatus{});
  int status = 0;
  EXPECT_EQ(::waitpid(other, &status, WNOHANG), other);
  EXPECT_EQ(WEXITSTATUS(status), 5);
}

TEST_F(ChildProcessTest, WhatEscapedWithThePipeDoesNotHoldUpTheEnd) {
  start({"escape"});
  EXPECT_EQ(wait(), ExitStatus{});
  const pid_t escaped = pid_of("escaped");
  ASSERT_NE(escaped, 0);
  EXPECT_TRUE(exists(escaped))
      << "if it is caught now, the comment in process_tree.h is out of date";
  ::kill(escaped, SIGKILL);
  ::waitpid(escaped, nullptr, 0);
}

// Reads the pid that the intermediate process prints for the child that it started.
pid_t start_intermediate(pid_t& inner) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return -1;
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDOUT_FILENO);
  std::string program = YOKE_TEST_CHILD;
  std::string mode = "supervise";
  char* const argv[] = {program.data(), mode.data(), nullptr};
  pid_t intermediate = -1;
  ::posix_spawn(&intermediate, program.c_str(), &actions, nullptr, argv, environ);
  ::posix_spawn_file_actions_destroy(&actions);
  write_end.reset();
  char text[32] = {};
  if (ended_within(read_end, kLimit) && ::read(read_end.get(), text, sizeof text - 1) > 0) {
    inner = std::stoi(text);
  }
  return intermediate;
}

TEST_F(ChildProcessTest, IsKilledWhenYokeIsKilled) {
  become_subreaper();  // So that the child's end can be seen here.
  pid_t inner = 0;
  const pid_t intermediate = start_intermediate(inner);
  ASSERT_GT(intermediate, 0);
  ASSERT_GT(inner, 0);
  const UniqueFd pidfd = open_pidfd(inner);
  EXPECT_FALSE(ended_within(pidfd, 50ms));
  ::kill(intermediate, SIGKILL);
  ::waitpid(intermediate, nullptr, 0);
  EXPECT_TRUE(ended_within(pidfd, kLimit));
  int status = 0;
  ::kill(inner, SIGKILL);
  EXPECT_EQ(::waitpid(inner, &status, 0), inner);
}

TEST_F(ChildProcessTest, OtherThreadsMayHoldLocksAtTheFork) {
  std::atomic<bool> done = false;
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&done] {
      while (!done) std::vector<std::string>(100, std::string(100, 'x'));
    });
  }
  for (int i = 0; i < 20; ++i) {
    start({"exit", "1"});
    EXPECT_EQ(wait(), (ExitStatus{1, 0}));
  }
  done = true;
  for (std::thread& thread : threads) thread.join();
}

// Starts and ends children by turns: one that ends by itself, one that is stopped, one that is
// destroyed.
io::Task<void> start_and_stop(int& left, int& wrong) {
  const auto executor = co_await asio::this_coro::executor;
  while (left > 0) {
    const int kind = left-- % 3;
    ChildSpec spec{.argv = {kind == 0 ? "/bin/true" : "/bin/sleep", "100"}};
    auto started = ChildProcess::spawn(executor, std::move(spec), nullptr);
    if (!started) {
      ++wrong;
      continue;
    }
    const std::unique_ptr<ChildProcess> child = std::move(*started);
    if (kind == 2) continue;
    ExitStatus status;
    if (kind == 0) {
      status = co_await child->wait();
    } else {
      status = co_await child->stop(30s);
    }
    if (status != (kind == 0 ? ExitStatus{} : ExitStatus{0, SIGTERM})) ++wrong;
  }
}

TEST_F(ChildProcessTest, TenThousandStartsAndStopsLeaveNothingBehind) {
  int left = kSanitized ? 500 : 10'000;
  int wrong = 0;
  const std::size_t threads = count_entries("/proc/self/task");
  const std::size_t descriptors = count_entries("/proc/self/fd");
  io::TaskGroup group(context.get_executor());
  for (int i = 0; i < 8; ++i) group.spawn(start_and_stop(left, wrong));
  EXPECT_TRUE(run_until([&] { return group.size() == 0; }, 100s));
  EXPECT_EQ(left, 0);
  EXPECT_EQ(wrong, 0);
  run_until([] { return false; }, 20ms);
  EXPECT_EQ(count_entries("/proc/self/task"), threads);
  EXPECT_EQ(count_entries("/proc/self/fd"), descriptors);
  EXPECT_THAT(descendants(::getpid()), IsEmpty());
}

}  // namespace
}  // namespace yoke::supervisor
