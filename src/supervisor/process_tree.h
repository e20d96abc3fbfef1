// The process tree of a child: found through /proc, killed and reaped, also the parts of it that
// left the child's group and session. Owned by the ChildProcess. ProcessTree is for the one thread
// that starts children (the control loop's); the free functions are for any thread.
//
// What belongs to a tree: the child (its leader, which leads a session and group of its own), what
// descends from it, what is in its group or session, and those of our own orphans that carry the
// tree's mark in their environment or were seen in the tree before. Orphans are ours because Yoke
// is their subreaper. One that double-forked into its own session and wiped its environment, all
// unseen, escapes; only a cgroup would hold it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

#include "base/unique_fd.h"
#include "supervisor/shared_memory.h"

namespace yoke::supervisor {

struct ProcessInfo {
  pid_t pid = 0;
  pid_t parent = 0;
  pid_t group = 0;
  pid_t session = 0;
  char state = '?';  // As in ps: R, S, D, Z, ...
  std::uint64_t start_ticks =
      0;  // Since boot: together with the pid it names one process for good.
  friend bool operator==(const ProcessInfo&, const ProcessInfo&) = default;
};

// The text of /proc/PID/stat; nothing if it is cut short or no such text.
std::optional<ProcessInfo> parse_stat(std::string_view stat);

// Nothing if there is no such process (any more).
std::optional<ProcessInfo> read_process(pid_t pid);

// What runs now; a process that starts or ends meanwhile may be missing. Empty if /proc can't be
// read. Takes about ten microseconds a process.
std::vector<ProcessInfo> list_processes();

// Those of `all` below `root`: children, grandchildren and so on.
std::vector<ProcessInfo> descendants(pid_t root, const std::vector<ProcessInfo>& all);
std::vector<ProcessInfo> descendants(pid_t root);

// A descriptor that is readable once the process has ended. Empty, with errno, if there is none.
UniqueFd open_pidfd(pid_t pid);
// False if it has ended.
bool send_signal(const UniqueFd& pidfd, int signal);

// SIGKILL to this very process, never to another that got its pid. False if it has ended.
bool kill_process(const ProcessInfo& process);

// Whether the entry `mark`, NAME=VALUE, is in the environment that the process was started with, as
// far as it can be read and the process has not overwritten it.
bool has_mark(pid_t pid, std::string_view mark);

// Makes this process the one that orphans below it come back to, and lets it wait for children even
// if it was started with SIGCHLD ignored. For the whole process, for good; may be repeated.
void become_subreaper();

// A child of ours that is no part of a tree although it has a session of its own: it is not looked
// at and not reaped, until it is let go. On the thread that starts children.
void keep_out_of_trees(pid_t child);
void let_go(pid_t child);

class ProcessTree {
 public:
  // `leader` is our child, in a session of its own, and not reaped before this object goes: that
  // keeps its pid, and the group and session of that number, from being used again. `mark` is an
  // entry NAME=VALUE of the leader's environment that no other tree has.
  ProcessTree(pid_t leader, std::string mark);
  // Removes what the tree's processes left in /dev/shm, as far as a sweep has seen them with it.
  ~ProcessTree();
  ProcessTree(const ProcessTree&) = delete;
  ProcessTree& operator=(const ProcessTree&) = delete;

  // Looks for the tree's processes, sends them (and the leader) SIGKILL if asked to, and reaps
  // those that are our dead orphans. How many are left beside the leader; after a kill they need a
  // moment, so repeat it until there are none. Also reaps dead orphans of trees that are gone. It
  // never reaps a child in Yoke's own session, as other code starts them, and never the leader.
  enum class Action { kLook, kKill };
  std::size_t sweep(Action action);

 private:
  bool may_have_members() const;
  std::vector<ProcessInfo> members(const std::vector<ProcessInfo>& all) const;
  bool is_root(const ProcessInfo& process) const;

  pid_t leader_;
  std::string mark_;
  std::map<pid_t, std::uint64_t> seen_;  // Members by pid, with their start.
  std::set<pid_t> sessions_;             // That members made.
  SharedMemory memory_;
};

}  // namespace yoke::supervisor
