#include "supervisor/process_tree.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

namespace yoke::supervisor {
namespace {

constexpr std::size_t kMaxProcesses = 100'000;
constexpr std::size_t kMaxFileBytes = 256 * 1024;

// The leaders of all trees, and what is kept out of them: what somebody else waits for is not to be
// reaped as an orphan.
std::set<pid_t>& leaders() {
  static std::set<pid_t> instance;
  return instance;
}

// The file's first `limit` bytes; nothing if it can't be opened, as when the process has ended.
std::optional<std::string> read_file(const std::string& path, std::size_t limit) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return std::nullopt;
  std::string text;
  std::array<char, 4096> buffer;
  while (text.size() < limit) {
    const ssize_t n =
        ::read(file.get(), buffer.data(), std::min(buffer.size(), limit - text.size()));
    if (n <= 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(n));
  }
  return text;
}

template <class T>
std::optional<T> to_number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Calls `visit` with the numbers among the names in a directory of /proc until it returns false.
// False if the directory can't be read.
template <class Visit>
bool for_each_number(const std::string& path, Visit visit) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), ::closedir);
  if (!directory) return false;
  while (const dirent* entry = ::readdir(directory.get())) {
    const auto number = to_number<pid_t>(entry->d_name);
    if (number && !visit(*number)) break;
  }
  return true;
}

// Whether the process has children for which `counts` is true. Costs a file per thread instead of
// one per process of the machine. True also if the kernel was built without these files.
template <class Counts>
bool may_have_children(pid_t parent, Counts counts) {
  bool found = false;
  const bool known = for_each_number(fmt::format("/proc/{}/task", parent), [&](pid_t thread) {
    const auto children =
        read_file(fmt::format("/proc/{}/task/{}/children", parent, thread), kMaxFileBytes);
    if (!children) {
      found = true;
      return false;
    }
    std::string_view rest = *children;
    while (!rest.empty() && !found) {
      const std::string_view word = rest.substr(0, rest.find(' '));
      const auto child = to_number<pid_t>(word);
      found = child && counts(*child);
      rest.remove_prefix(std::min(rest.size(), word.size() + 1));
    }
    return !found;
  });
  return found || !known;
}

// An orphan that came to us from a tree: all of a tree lives outside our own session, and a child
// of ours that does so is either a leader or was adopted.
bool is_orphan(const ProcessInfo& process) {
  return process.parent == ::getpid() && process.session != ::getsid(0) &&
         !leaders().contains(process.pid);
}

bool reap(const ProcessInfo& process) {
  siginfo_t info{};
  return ::waitid(P_PID, static_cast<id_t>(process.pid), &info, WEXITED | WNOHANG) == 0 &&
         info.si_pid == process.pid;
}

}  // namespace

std::optional<ProcessInfo> parse_stat(std::string_view stat) {
  // "PID (NAME) STATE PARENT GROUP SESSION ... START ...", where NAME may hold anything.
  const std::size_t open = stat.find(" (");
  const std::size_t close = stat.rfind(") ");
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) {
    return std::nullopt;
  }
  constexpr std::size_t kStartField = 19;  // Counted from STATE.
  std::array<std::string_view, kStartField + 1> fields;
  std::string_view rest = stat.substr(close + 2);
  for (std::string_view& field : fields) {
    const std::size_t end = rest.find_first_of(" \n");
    if (end == std::string_view::npos) return std::nullopt;
    field = rest.substr(0, end);
    rest.remove_prefix(end + 1);
  }
  const auto pid = to_number<pid_t>(stat.substr(0, open));
  const auto parent = to_number<pid_t>(fields[1]);
  const auto group = to_number<pid_t>(fields[2]);
  const auto session = to_number<pid_t>(fields[3]);
  const auto start = to_number<std::uint64_t>(fields[kStartField]);
  if (!pid || !parent || !group || !session || !start || fields[0].size() != 1) return std::nullopt;
  return ProcessInfo{*pid, *parent, *group, *session, fields[0][0], *start};
}

std::optional<ProcessInfo> read_process(pid_t pid) {
  const auto stat = read_file(fmt::format("/proc/{}/stat", pid), kMaxFileBytes);
  return stat ? parse_stat(*stat) : std::nullopt;
}

std::vector<ProcessInfo> list_processes() {
  std::vector<ProcessInfo> result;
  for_each_number("/proc", [&](pid_t pid) {
    if (const auto process = read_process(pid)) result.push_back(*process);
    return result.size() < kMaxProcesses;
  });
  return result;
}

std::vector<ProcessInfo> descendants(pid_t root, const std::vector<ProcessInfo>& all) {
  std::multimap<pid_t, const ProcessInfo*> children;
  for (const ProcessInfo& process : all) children.emplace(process.parent, &process);
  std::vector<ProcessInfo> result;
  std::set<pid_t> found{root};
  std::vector<pid_t> to_visit{root};
  while (!to_visit.empty()) {
    const auto [first, last] = children.equal_range(to_visit.back());
    to_visit.pop_back();
    for (auto it = first; it != last; ++it) {
      if (!found.insert(it->second->pid).second) continue;
      result.push_back(*it->second);
      to_visit.push_back(it->second->pid);
    }
  }
  return result;
}

std::vector<ProcessInfo> descendants(pid_t root) { return descendants(root, list_processes()); }

// glibc has functions for these two, but its header of Debian 12 lacks extern "C".
UniqueFd open_pidfd(pid_t pid) {
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

bool send_signal(const UniqueFd& pidfd, int signal) {
  return ::syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0) == 0;
}

bool kill_process(const ProcessInfo& process) {
  const UniqueFd pidfd = open_pidfd(process.pid);
  if (!pidfd) return false;
  const auto now = read_process(process.pid);
  return now && now->start_ticks == process.start_ticks && send_signal(pidfd, SIGKILL);
}

bool has_mark(pid_t pid, std::string_view mark) {
  const auto environment = read_file(fmt::format("/proc/{}/environ", pid), kMaxFileBytes);
  std::string_view rest = environment ? *environment : std::string_view();
  while (!rest.empty()) {
    const std::string_view entry = rest.substr(0, rest.find('\0'));
    if (entry == mark) return true;
    rest.remove_prefix(std::min(rest.size(), entry.size() + 1));
  }
  return false;
}

void become_subreaper() {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  struct sigaction action{};
  if (::sigaction(SIGCHLD, nullptr, &action) == 0 && action.sa_handler == SIG_IGN) {
    ::signal(SIGCHLD, SIG_DFL);
  }
}

void keep_out_of_trees(pid_t child) { leaders().insert(child); }
void let_go(pid_t child) { leaders().erase(child); }

ProcessTree::ProcessTree(pid_t leader, std::string mark) : leader_(leader), mark_(std::move(mark)) {
  leaders().insert(leader_);
}

ProcessTree::~ProcessTree() {
  leaders().erase(leader_);
  memory_.remove_leftovers();
}

std::size_t ProcessTree::sweep(Action action) {
  memory_.note(leader_);
  if (!may_have_members()) {
    if (action == Action::kKill) ::kill(-leader_, SIGKILL);
    return 0;
  }
  const std::vector<ProcessInfo> all = list_processes();
  const std::vector<ProcessInfo> tree = members(all);
  for (const ProcessInfo& member : tree) {
    seen_[member.pid] = member.start_ticks;
    memory_.note(member.pid);
    if (member.session != leader_) sessions_.insert(member.session);
  }
  if (action == Action::kKill) {
    // The group at once, so that nobody in it can start something in between.
    ::kill(-leader_, SIGKILL);
    for (const ProcessInfo& member : tree) kill_process(member);
  }
  std::set<pid_t> reaped;
  for (const ProcessInfo& process : all) {
    if (process.state == 'Z' && is_orphan(process) && reap(process)) reaped.insert(process.pid);
  }
  return static_cast<std::size_t>(std::count_if(
      tree.begin(), tree.end(), [&](const ProcessInfo& p) { return !reaped.contains(p.pid); }));
}

bool ProcessTree::may_have_members() const {
  // Whatever is in the tree descends from the leader, or from an orphan that came to us.
  return may_have_children(leader_, [](pid_t) { return true; }) ||
         may_have_children(::getpid(), [](pid_t pid) { return !leaders().contains(pid); });
}

std::vector<ProcessInfo> ProcessTree::members(const std::vector<ProcessInfo>& all) const {
  // The roots' parent is replaced by the leader, and all members are its descendants.
  std::vector<ProcessInfo> rerooted = all;
  for (ProcessInfo& process : rerooted) {
    if (process.pid != leader_ && is_root(process)) process.parent = leader_;
  }
  return descendants(leader_, rerooted);
}

bool ProcessTree::is_root(const ProcessInfo& process) const {
  if (process.group == leader_ || process.session == leader_) return true;
  if (!is_orphan(process)) return false;
  if (sessions_.contains(process.session)) return true;
  const auto seen = seen_.find(process.pid);
  if (seen != seen_.end() && seen->second == process.start_ticks) return true;
  return has_mark(process.pid, mark_);
}

}  // namespace yoke::supervisor
