// ChildProcess: a program that Yoke runs, with its output and everything it starts in turn.
// Owned by whoever started it. All calls on the one thread that runs the executor, which must live
// as long as the child is wanted: the kernel kills the child when the thread that spawned it ends.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <utility>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "base/exit_status.h"
#include "base/result.h"
#include "io/task.h"

namespace yoke::supervisor {

class Guard;

inline constexpr ErrorCode kSpawnFailed{"spawn_failed"};

struct ChildSpec {
  // argv[0] is the program's path, not looked up in PATH; a relative one counts from where Yoke is.
  std::vector<std::string> argv;
  // Added to Yoke's own environment, or in place of what has the same name there.
  std::vector<std::pair<std::string, std::string>> env{};
  // What of Yoke's own environment is kept from it: variables whose names begin so.
  std::vector<std::string> drop_env_prefixes{};
  std::filesystem::path working_dir{};  // Empty: as Yoke's.
  Guard* guard = nullptr;               // Ends the tree if Yoke is killed; outlives the child.
};

// The child leads a session and process group of its own, reads nothing (/dev/null), has default
// signal handling, inherits no descriptor, and is what the kernel kills first when memory runs out.
// When it ends, by itself or not, what is left of its tree is killed: an engine's helpers are no
// good without it, but keep their memory. process_tree.h says what belongs to the tree.
class ChildProcess {
 public:
  // Gets stdout and stderr as lines of clean text (LineSplitter). It must not throw and not destroy
  // the ChildProcess; it is not called any more once the ChildProcess is gone.
  using LineSink = std::function<void(std::string_view line)>;

  // Blocks until the program is loaded, about a millisecond. kSpawnFailed says why it can't be run.
  static Result<std::unique_ptr<ChildProcess>> spawn(boost::asio::any_io_executor executor,
                                                     ChildSpec spec, LineSink sink);

  // Kills the tree at once and reaps it; blocks for the moment (at most two seconds) that takes.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const;  // Stays the same after the end.
  // The child itself; its tree may take a moment longer to go, see wait().
  bool running() const { return !exit_status().has_value(); }
  std::optional<ExitStatus> exit_status() const;

  // Returns when the child has ended, nothing of its tree is left, and its output was handed out.
  // Any number may wait; without a limit of its own, but can be cancelled. When it is cancelled or
  // the ChildProcess destroyed it returns at once; of a child that runs on it then says signal 9.
  io::Task<ExitStatus> wait();

  // SIGTERM to the child's group; after `grace`, or when called again with less, SIGKILL to the
  // whole tree. Returns as wait() does, or 30 seconds after the kill if the kernel could not end it
  // (it hangs in a driver); running() tells. Goes on when the caller is cancelled.
  io::Task<ExitStatus> stop(std::chrono::milliseconds grace);

  // Takes note of what its tree is and holds now, so that none of it is missed should all of it be
  // gone at once. Looks also happen by themselves, when the child ends or is ended.
  void look_at_tree();

  // Sends a signal to the child alone; nothing happens if it has ended.
  void signal(int number);

 private:
  struct State;
  explicit ChildProcess(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace yoke::supervisor
