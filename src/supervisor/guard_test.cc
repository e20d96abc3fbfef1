#include "supervisor/guard.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sstream>
#include <sys/wait.h>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "supervisor/process_tree.h"

namespace yoke::supervisor {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

constexpr auto kLimit = 10s;
constexpr auto kGoneWithin = 2s;

bool is_running(pid_t pid) {
  const auto process = read_process(pid);
  return process && process->state != 'Z';
}

bool holds_within(std::chrono::milliseconds limit, const std::function<bool()>& condition) {
  const auto deadline = Clock::now() + limit;
  while (!condition()) {
    if (Clock::now() >= deadline) return false;
    std::this_thread::sleep_for(2ms);
  }
  return true;
}

std::string name_of(pid_t pid) {
  std::string name;
  std::ifstream file("/proc/" + std::to_string(pid) + "/comm");
  std::getline(file, name);
  return name;
}

// Their kinds, without a number. One that is closed while they are read is left out.
std::vector<std::string> open_files_of(pid_t pid) {
  std::vector<std::string> open;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd")) {
    std::error_code closed;
    const std::string target = std::filesystem::read_symlink(entry, closed).string();
    if (!closed) open.push_back(target.substr(0, target.find('[')));
  }
  return open;
}

// Stands for Yoke: a program of its own, with pipes to its input and from its output.
class Program {
 public:
  explicit Program(std::vector<std::string> arguments) {
    int input[2];
    int output[2];
    EXPECT_EQ(::pipe2(input, O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(output, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, input[0], STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
    arguments.insert(arguments.begin(), YOKE_TEST_CHILD);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    EXPECT_EQ(::posix_spawn(&pid_, YOKE_TEST_CHILD, &actions, nullptr, argv.data(), environ), 0);
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(input[0]);
    ::close(output[1]);
    input_ = UniqueFd(input[1]);
    output_ = UniqueFd(output[0]);
  }
  ~Program() {
    kill();
    for (const auto& [_, pid] : helpers_) {
      if (is_running(pid)) ::kill(pid, SIGKILL);
    }
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  pid_t pid() const { return pid_; }
  void say(const std::string& text) {
    EXPECT_EQ(::write(input_.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  void close_input() { input_.reset(); }

  // Reads "NAME PID" lines up to "ready".
  void read_until_ready() {
    for (std::string line = read_line(); line != "ready"; line = read_line()) {
      ASSERT_NE(line, "") << "the program ended";
      std::istringstream fields(line);
      std::string name;
      pid_t pid = 0;
      ASSERT_TRUE(fields >> name >> pid) << line;
      helpers_.emplace(name, pid);
    }
  }
  const std::multimap<std::string, pid_t>& helpers() const { return helpers_; }
  std::vector<std::string> running_helpers() const {
    std::vector<std::string> names;
    for (const auto& [name, pid] : helpers_) {
      if (is_running(pid)) names.push_back(name);
    }
    return names;
  }
  bool ends_within(std::chrono::milliseconds limit) {
    return holds_within(limit, [this] { return !is_running(pid_); });
  }
  // SIGKILL, if it still runs, and reaps it.
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  // Nobody holds its output open any more.
  bool output_ends_within(std::chrono::milliseconds limit) {
    const auto deadline = Clock::now() + limit;
    while (Clock::now() < deadline) {
      if (read_some() == 0) return true;
    }
    return false;
  }

 private:
  // Bytes read, -1 if none came for a moment.
  ssize_t read_some() {
    pollfd ready{output_.get(), POLLIN, 0};
    if (::poll(&ready, 1, 100) <= 0) return -1;
    std::array<char, 4096> buffer;
    const ssize_t n = ::read(output_.get(), buffer.data(), buffer.size());
    if (n > 0) text_.append(buffer.data(), static_cast<std::size_t>(n));
    return n;
  }
  std::string read_line() {
    const auto deadline = Clock::now() + kLimit;
    std::size_t end;
    while ((end = text_.find('\n')) == std::string::npos) {
      if (Clock::now() > deadline || read_some() == 0) return {};
    }
    std::string line = text_.substr(0, end);
    text_.erase(0, end + 1);
    return line;
  }

  pid_t pid_ = 0;
  UniqueFd input_;
  UniqueFd output_;
  std::string text_;
  std::multimap<std::string, pid_t> helpers_;
};

std::vector<pid_t> guards_of(pid_t yoke) {
  std::vector<pid_t> guards;
  for (const ProcessInfo& process : descendants(yoke)) {
    if (process.parent == yoke && name_of(process.pid) == "yoke-guard" && process.state != 'Z') {
      guards.push_back(process.pid);
    }
  }
  return guards;
}

pid_t guard_of(pid_t yoke) {
  pid_t guard = 0;
  EXPECT_TRUE(holds_within(kLimit, [&] {
    const auto guards = guards_of(yoke);
    if (guards.size() == 1) guard = guards[0];
    return guard != 0;
  }));
  return guard;
}

TEST(Guard, EndsWhatAKilledYokeLeavesBehind) {
  Program yoke({"guarded", "family"});
  yoke.read_until_ready();
  ASSERT_THAT(yoke.running_helpers(), SizeIs(6));
  const pid_t guard = guard_of(yoke.pid());
  yoke.kill();
  EXPECT_TRUE(holds_within(kGoneWithin, [&] { return yoke.running_helpers().empty(); }))
      << testing::PrintToString(yoke.running_helpers());
  EXPECT_TRUE(holds_within(kGoneWithin, [&] { return !is_running(guard); }));
}

TEST(Guard, KnowsItsTreesSessionWithoutAnyEnvironment) {
  Program yoke({"guarded", "nameless"});
  yoke.read_until_ready();
  const pid_t nameless = yoke.helpers().find("nameless")->second;
  ASSERT_TRUE(is_running(nameless));
  guard_of(yoke.pid());
  yoke.kill();
  EXPECT_TRUE(holds_within(kGoneWithin, [&] { return !is_running(nameless); }));
}

TEST(Guard, GoesWithAYokeThatEndsWell) {
  Program yoke({"guarded", "family"});
  yoke.read_until_ready();
  const pid_t guard = guard_of(yoke.pid());
  yoke.close_input();
  EXPECT_TRUE(yoke.ends_within(kLimit));
  EXPECT_FALSE(is_running(guard));
  EXPECT_THAT(yoke.running_helpers(), IsEmpty());
}

TEST(Guard, HoldsNothingOfYokesAndHeedsNoSignal) {
  Program yoke({"guarded", "sleep"});
  yoke.read_until_ready();
  const pid_t guard = guard_of(yoke.pid());
  EXPECT_EQ(read_process(guard)->session, guard);
  // What the guard opens for a look at its tree is gone a moment later.
  const auto own = UnorderedElementsAre("socket:", "/dev/null", "/dev/null", "anon_inode:");
  EXPECT_TRUE(holds_within(kLimit, [&] { return testing::Value(open_files_of(guard), own); }))
      << testing::PrintToString(open_files_of(guard));
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::kill(guard, number);
  yoke.kill();
  EXPECT_TRUE(yoke.output_ends_within(kGoneWithin));
  EXPECT_TRUE(holds_within(kGoneWithin, [&] { return !is_running(guard); }));
}

TEST(Guard, OneThatWasKilledIsStartedAgainWithAllItKnew) {
  Program yoke({"guarded", "family"});
  yoke.read_until_ready();
  ::kill(guard_of(yoke.pid()), SIGKILL);
  ASSERT_TRUE(holds_within(kLimit, [&] { return guards_of(yoke.pid()).empty(); }));
  yoke.say("sleep\n");
  yoke.read_until_ready();
  ASSERT_THAT(yoke.running_helpers(), SizeIs(7));
  const pid_t guard = guard_of(yoke.pid());
  yoke.kill();
  EXPECT_TRUE(holds_within(kGoneWithin, [&] { return yoke.running_helpers().empty(); }))
      << testing::PrintToString(yoke.running_helpers());
  EXPECT_TRUE(holds_within(kGoneWithin, [&] { return !is_running(guard); }));
}

// Leads a session of its own.
class Sleeper {
 public:
  Sleeper() : pid_(::fork()) {
    if (pid_ == 0) {
      ::setsid();
      ::alarm(60);
      while (true) ::pause();
    }
    EXPECT_TRUE(holds_within(kLimit, [&] { return read_process(pid_)->session == pid_; }));
  }
  ~Sleeper() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
};

TEST(Guard, SparesWhatItWasToldToForget) {
  const Sleeper forgotten;
  const Sleeper watched;
  Program guard({std::string(kGuardCommand)});
  guard.say("+" + std::to_string(forgotten.pid()) + " MARK=1\n" + "+" +
            std::to_string(watched.pid()) + " MARK=2\n" + "-" + std::to_string(forgotten.pid()) +
            "\n");
  guard.close_input();
  EXPECT_TRUE(guard.ends_within(kLimit));
  EXPECT_TRUE(is_running(forgotten.pid()));
  EXPECT_FALSE(is_running(watched.pid()));
}

TEST(Guard, SparesEverybodyWhenItIsToldNonsense) {
  const Sleeper stranger;
  const std::string pid = std::to_string(stranger.pid());
  Program guard({std::string(kGuardCommand)});
  guard.say(pid + " MARK=1\n\n+\n-\n+ \n+x MARK=1\n+" + pid + "\n+" + pid +
            "x MARK=1\n+-1 MARK=1\n" + "+0 MARK=1\n+99999999999999999999 MARK=1\n" +
            std::string(5000, '+') + "+" + pid + " MARK=1");
  guard.close_input();
  EXPECT_TRUE(guard.ends_within(kLimit));
  EXPECT_TRUE(is_running(stranger.pid()));
}

}  // namespace
}  // namespace yoke::supervisor
