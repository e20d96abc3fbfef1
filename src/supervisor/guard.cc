#include "supervisor/guard.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <fcntl.h>
#include <linux/close_range.h>
#include <optional>
#include <poll.h>
#include <set>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <system_error>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "base/log.h"
#include "supervisor/child_process.h"
#include "supervisor/process_tree.h"
#include "supervisor/shared_memory.h"

namespace yoke::supervisor {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// Of a guard with nothing to watch, when Yoke ends.
constexpr int kEndLimitMs = 1000;
// For the end of the trees that Yoke left behind.
constexpr auto kKillLimit = 10s;
constexpr auto kKillPause = 20ms;
// Between two looks at who belongs to a tree, for the few that could not be told later.
constexpr auto kLookInterval = 5s;
constexpr std::size_t kMaxLine = 256;

// A tree as the guard sees it, which is no ancestor of its processes.
class GuardedTree {
 public:
  // `leader` leads a session and group of its own, and is not reaped before it is forgotten.
  GuardedTree(const ProcessInfo& leader, std::string mark)
      : leader_(leader), mark_(std::move(mark)) {}

  // Remembers who is in the tree, among all processes.
  void look(const std::vector<ProcessInfo>& all) { remember(members(all, Marks::kTrusted)); }
  // Kills who is in it. False if nobody is.
  bool kill(const std::vector<ProcessInfo>& all);
  // When nobody is in it any more.
  void remove_leftovers() { memory_.remove_leftovers(); }

 private:
  // To read the environment of every process takes long.
  enum class Marks { kTrusted, kRead };
  std::vector<ProcessInfo> members(const std::vector<ProcessInfo>& all, Marks marks) const;
  bool is_root(const ProcessInfo& process, Marks marks) const;
  void remember(const std::vector<ProcessInfo>& members);

  ProcessInfo leader_;
  std::string mark_;
  std::set<std::pair<pid_t, std::uint64_t>> seen_;  // Members at the last look, with their start.
  std::set<pid_t> sessions_;                        // Theirs.
  SharedMemory memory_;
};

bool GuardedTree::is_root(const ProcessInfo& process, Marks marks) const {
  if (process.start_ticks < leader_.start_ticks) return false;  // Older than the tree.
  return process.group == leader_.pid || process.session == leader_.pid ||
         seen_.contains({process.pid, process.start_ticks}) ||
         sessions_.contains(process.session) ||
         (marks == Marks::kRead && has_mark(process.pid, mark_));
}

std::vector<ProcessInfo> GuardedTree::members(const std::vector<ProcessInfo>& all,
                                              Marks marks) const {
  constexpr pid_t kRoot = 0;  // Nobody's pid.
  std::vector<ProcessInfo> rerooted = all;
  for (ProcessInfo& process : rerooted) {
    process.parent = is_root(process, marks) ? kRoot : std::max(process.parent, 1);
  }
  std::vector<ProcessInfo> found = descendants(kRoot, rerooted);
  std::erase_if(found, [](const ProcessInfo& process) {
    return process.state == 'Z' || process.pid == 1 || process.pid == ::getpid();
  });
  return found;
}

void GuardedTree::remember(const std::vector<ProcessInfo>& members) {
  // Of the last look only: numbers of long ago may be others' by now.
  seen_.clear();
  sessions_.clear();
  for (const ProcessInfo& member : members) {
    seen_.insert({member.pid, member.start_ticks});
    sessions_.insert(member.session);
    memory_.note(member.pid);
  }
}

bool GuardedTree::kill(const std::vector<ProcessInfo>& all) {
  const std::vector<ProcessInfo> tree = members(all, Marks::kRead);
  remember(tree);
  const bool group_lives =
      std::ranges::any_of(tree, [&](const ProcessInfo& p) { return p.group == leader_.pid; });
  // The group at once, so that nobody in it can start something in between.
  if (group_lives) ::kill(-leader_.pid, SIGKILL);
  for (const ProcessInfo& member : tree) kill_process(member);
  return !tree.empty();
}

class GuardedTrees {
 public:
  bool empty() const { return trees_.empty(); }
  // "+PID MARK" or "-PID"; anything else is ignored.
  void obey(std::string_view line);
  void look();
  // Returns when they are gone, or after the limit.
  void end();

 private:
  std::map<pid_t, GuardedTree> trees_;
};

void GuardedTrees::obey(std::string_view line) {
  if (line.empty()) return;
  const std::size_t before_mark = std::min(line.find(' '), line.size());
  const std::string_view number = line.substr(1, before_mark - 1);
  pid_t pid = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), pid);
  if (error != std::errc() || end != number.data() + number.size()) return;
  if (line.starts_with('-')) trees_.erase(pid);
  if (!line.starts_with('+') || before_mark == line.size()) return;
  const auto leader = read_process(pid);
  if (!leader || leader->session != pid || pid == 1 || pid == ::getpid()) return;
  trees_.erase(pid);
  const std::string mark(line.substr(before_mark + 1));
  trees_.emplace(pid, GuardedTree(*leader, mark)).first->second.look({*leader});
}

void GuardedTrees::look() {
  if (trees_.empty()) return;
  const std::vector<ProcessInfo> all = list_processes();
  for (auto& [_, tree] : trees_) tree.look(all);
}

void GuardedTrees::end() {
  const auto give_up = Clock::now() + kKillLimit;
  while (!trees_.empty() && Clock::now() < give_up) {
    const std::vector<ProcessInfo> all = list_processes();
    for (auto it = trees_.begin(); it != trees_.end();) {
      if (it->second.kill(all)) {
        ++it;
        continue;
      }
      it->second.remove_leftovers();
      it = trees_.erase(it);
    }
    if (!trees_.empty()) std::this_thread::sleep_for(kKillPause);
  }
  for (auto& [_, tree] : trees_) tree.remove_leftovers();
}

// What Yoke says, from standard input.
class Orders {
 public:
  // Hands out the lines that are there. False at the end of the input.
  bool read(GuardedTrees& trees) {
    std::array<char, 4096> buffer;
    const ssize_t n = ::read(STDIN_FILENO, buffer.data(), buffer.size());
    if (n <= 0) return n < 0 && (errno == EAGAIN || errno == EINTR);
    text_.append(buffer.data(), static_cast<std::size_t>(n));
    std::size_t end = 0;
    while ((end = text_.find('\n')) != std::string::npos) {
      trees.obey(std::string_view(text_).substr(0, end));
      text_.erase(0, end + 1);
    }
    if (text_.size() > kMaxLine) text_.clear();
    return true;
  }

 private:
  std::string text_;  // A line whose end has not come yet.
};

void become_guard() {
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE}) ::signal(number, SIG_IGN);
  ::prctl(PR_SET_NAME, "yoke-guard", 0, 0, 0);
  // A listening socket of Yoke's, or a pipe that somebody reads to its end, must not be kept open.
  ::close_range(STDERR_FILENO + 1, ~0U, 0);
  // Nor a file system be kept from being unmounted.
  [[maybe_unused]] const int ignored = ::chdir("/");
}

// The program that runs now, whatever has become of its file.
constexpr const char* kOwnProgram = "/proc/self/exe";

// Fails with the errno.
int spawn_with_input(int input, pid_t& pid) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  for (const int output : {STDOUT_FILENO, STDERR_FILENO}) {
    ::posix_spawn_file_actions_addopen(&actions, output, "/dev/null", O_WRONLY, 0);
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  // A session of its own keeps the terminal's signals away.
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
  std::string name = "yoke-guard";
  std::string command(kGuardCommand);
  const std::array<char*, 3> argv{name.data(), command.data(), nullptr};
  const int error = ::posix_spawn(&pid, kOwnProgram, &actions, &attributes, argv.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  return error;
}

std::string order_to_watch(pid_t leader, const std::string& mark) {
  return fmt::format("+{} {}\n", leader, mark);
}

}  // namespace

int run_guard() {
  become_guard();
  const UniqueFd yoke = open_pidfd(::getppid());
  GuardedTrees trees;
  Orders orders;
  auto next_look = Clock::now() + kLookInterval;
  ::fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
  std::array<pollfd, 2> events{pollfd{STDIN_FILENO, POLLIN, 0}, pollfd{yoke.get(), POLLIN, 0}};
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(next_look - Clock::now());
    const int wait_ms = trees.empty() ? -1 : static_cast<int>(std::max(left, 0ms).count());
    const int polled = ::poll(events.data(), events.size(), wait_ms);
    if (polled < 0 && errno != EINTR) break;
    if (polled > 0 && events[0].revents != 0 && !orders.read(trees)) break;
    // The input may be held open by a process that Yoke was just about to start.
    if (polled > 0 && events[0].revents == 0 && events[1].revents != 0) break;
    if (Clock::now() >= next_look) {
      trees.look();
      next_look = Clock::now() + kLookInterval;
    }
  }
  trees.end();
  return 0;
}

Result<std::unique_ptr<Guard>> Guard::start() {
  std::unique_ptr<Guard> guard(new Guard);
  YOKE_CHECK(guard->spawn());
  return guard;
}

Result<void> Guard::spawn() {
  // No pipe: to write to one whose reader has gone raises a signal.
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return fail(kSpawnFailed, fmt::format("The guard process can't be reached: {}.",
                                          std::generic_category().message(errno)));
  }
  UniqueFd ours(ends[0]);
  const UniqueFd its(ends[1]);
  pid_t pid = 0;
  if (const int error = spawn_with_input(its.get(), pid); error != 0) {
    return fail(kSpawnFailed, fmt::format("The guard process can't be started: {}.",
                                          std::generic_category().message(error)));
  }
  keep_out_of_trees(pid);
  pid_ = pid;
  pipe_ = std::move(ours);
  return {};
}

// Ends and reaps it, however it is.
void Guard::dismiss() {
  pipe_.reset();
  if (pid_ == 0) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  let_go(std::exchange(pid_, 0));
}

Guard::~Guard() {
  pipe_.reset();
  if (pid_ == 0) return;
  pollfd end{-1, POLLIN, 0};
  const UniqueFd pidfd = open_pidfd(pid_);
  end.fd = pidfd.get();
  ::poll(&end, 1, kEndLimitMs);
  ::waitpid(pid_, nullptr, WNOHANG);
  let_go(pid_);
}

void Guard::tell(const std::string& line) {
  constexpr int kFlags = MSG_NOSIGNAL | MSG_DONTWAIT;
  const auto sent = [this](const std::string& text) {
    return pipe_ && ::send(pipe_.get(), text.data(), text.size(), kFlags) ==
                        static_cast<ssize_t>(text.size());
  };
  if (sent(line)) return;
  // It was killed, or does not run: another one is told everything.
  dismiss();
  if (const auto spawned = spawn(); !spawned) {
    log::warning("{} Engines' helpers may outlive a killed Yoke.", spawned.error().text());
    return;
  }
  for (const auto& [leader, mark] : watched_) sent(order_to_watch(leader, mark));
}

void Guard::watch(pid_t leader, const std::string& mark) {
  watched_[leader] = mark;
  tell(order_to_watch(leader, mark));
}

void Guard::forget(pid_t leader) {
  watched_.erase(leader);
  tell(fmt::format("-{}\n", leader));
}

}  // namespace yoke::supervisor
