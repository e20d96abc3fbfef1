// Guard: a small process beside Yoke that ends the engines' trees when Yoke itself was killed. The
// kernel ends Yoke's children with it, but not their children, as vLLM has.
// Owned by the control loop; all calls on its thread.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <sys/types.h>

#include "base/result.h"
#include "base/unique_fd.h"

namespace yoke::supervisor {

// The hidden command that a guard is started with; main runs run_guard() for it.
inline constexpr std::string_view kGuardCommand = "__guard";

class Guard {
 public:
  // Starts this very program again with kGuardCommand. kSpawnFailed.
  static Result<std::unique_ptr<Guard>> start();
  ~Guard();  // It goes by itself when nothing is left to watch and Yoke ended as it should.
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

  // A tree as in process_tree.h. Never blocks; a guard that is gone is started again.
  void watch(pid_t leader, const std::string& mark);
  void forget(pid_t leader);

 private:
  Guard() = default;
  Result<void> spawn();
  void dismiss();
  void tell(const std::string& line);

  UniqueFd pipe_;
  pid_t pid_ = 0;                         // 0: there is none.
  std::map<pid_t, std::string> watched_;  // Marks by leader.
};

// The guard itself: reads what to watch from standard input, and ends those trees when that closes.
// The exit status.
int run_guard();

}  // namespace yoke::supervisor
