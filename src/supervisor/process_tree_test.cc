#include "supervisor/process_tree.h"

#include <algorithm>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yoke::supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

std::string stat_of(const std::string& name) {
  return "4321 (" + name +
         ") S 17 4300 4200 34816 5 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654321012 9 10 11\n";
}

TEST(ParseStat, ReadsTheFields) {
  const ProcessInfo expected{4321, 17, 4300, 4200, 'S', 987654321012};
  EXPECT_EQ(parse_stat(stat_of("llama-server")), expected);
}

TEST(ParseStat, ANameMayHoldAnything) {
  for (const char* name :
       {"", "a b", "a) R 1 2 3", ") (", "(sd-pam)", "new\nline", "VLLM::Worker"}) {
    const auto process = parse_stat(stat_of(name));
    ASSERT_TRUE(process) << name;
    EXPECT_EQ(process->parent, 17) << name;
    EXPECT_EQ(process->start_ticks, 987654321012u) << name;
  }
}

TEST(ParseStat, RefusesWhatIsCutShort) {
  const std::string whole = stat_of("a b");
  const std::size_t needed = whole.find(" 9 10 11");
  for (std::size_t length = 0; length <= needed; ++length) {
    EXPECT_FALSE(parse_stat(std::string_view(whole).substr(0, length))) << length;
  }
  EXPECT_TRUE(parse_stat(std::string_view(whole).substr(0, needed + 1)));
  EXPECT_FALSE(parse_stat("x (a) S 17 4300 4200 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 1 1"));
}

std::vector<pid_t> pids(const std::vector<ProcessInfo>& processes) {
  std::vector<pid_t> result;
  for (const ProcessInfo& process : processes) result.push_back(process.pid);
  return result;
}

TEST(Descendants, AreFoundAtAnyDepthAndInAnyOrder) {
  const std::vector<ProcessInfo> all = {
      {.pid = 50, .parent = 40}, {.pid = 10, .parent = 1},  {.pid = 40, .parent = 20},
      {.pid = 20, .parent = 10}, {.pid = 30, .parent = 10}, {.pid = 60, .parent = 1},
      {.pid = 1, .parent = 0},
  };
  EXPECT_THAT(pids(descendants(10, all)), UnorderedElementsAre(20, 30, 40, 50));
  EXPECT_THAT(pids(descendants(40, all)), ElementsAre(50));
  EXPECT_THAT(descendants(60, all), IsEmpty());
  EXPECT_THAT(descendants(99, all), IsEmpty());
}

TEST(Descendants, ACircleEnds) {
  // A list that is not of one moment may hold one, through a pid that was used again.
  const std::vector<ProcessInfo> all = {{.pid = 10, .parent = 20}, {.pid = 20, .parent = 10}};
  EXPECT_THAT(pids(descendants(10, all)), ElementsAre(20));
}

class SleepingChild {
 public:
  SleepingChild() : pid_(::fork()) {
    if (pid_ != 0) return;
    ::alarm(60);
    while (true) ::pause();
  }
  ~SleepingChild() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
};

bool readable(const UniqueFd& fd, int limit_ms) {
  pollfd ready{fd.get(), POLLIN, 0};
  return ::poll(&ready, 1, limit_ms) == 1;
}

TEST(ListProcesses, HoldsThisProcessAndItsChild) {
  // What other tests left to this process, dead and not waited for, is there too.
  std::vector<pid_t> children = pids(descendants(::getpid()));
  const SleepingChild child;
  children.push_back(child.pid());
  const auto self = read_process(::getpid());
  ASSERT_TRUE(self);
  EXPECT_EQ(self->parent, ::getppid());
  EXPECT_EQ(self->group, ::getpgrp());
  EXPECT_EQ(self->session, ::getsid(0));
  const std::vector<pid_t> all = pids(list_processes());
  EXPECT_EQ(std::count(all.begin(), all.end(), ::getpid()), 1);
  EXPECT_THAT(pids(descendants(::getpid())), testing::UnorderedElementsAreArray(children));
}

TEST(KillProcess, KillsTheOneThatWasSeenAndNoOther) {
  const SleepingChild child;
  auto process = read_process(child.pid());
  ASSERT_TRUE(process);
  const UniqueFd pidfd = open_pidfd(child.pid());
  ASSERT_TRUE(pidfd);
  ProcessInfo predecessor = *process;
  --predecessor.start_ticks;
  EXPECT_FALSE(kill_process(predecessor)) << "another process that had the same pid";
  EXPECT_FALSE(readable(pidfd, 50));
  EXPECT_TRUE(kill_process(*process));
  EXPECT_TRUE(readable(pidfd, 5000));
}

TEST(BecomeSubreaper, UndoesAnInheritedDisposition) {
  ::signal(SIGCHLD, SIG_IGN);
  become_subreaper();
  const pid_t child = ::fork();
  if (child == 0) ::_exit(5);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child)
      << "with SIGCHLD ignored there is nothing to wait for";
  EXPECT_EQ(WEXITSTATUS(status), 5);
}

}  // namespace
}  // namespace yoke::supervisor
