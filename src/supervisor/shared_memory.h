// Files in /dev/shm that an engine's processes use, and leave behind when they are killed (vLLM's
// psm_* and sem.mp-*). For the thread that owns the process tree.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <sys/types.h>
#include <time.h>

namespace yoke::supervisor {

class SharedMemory {
 public:
  SharedMemory();

  // Notes what the process has mapped or open there. Call it while the process lives.
  void note(pid_t process);

  // Removes what was noted, is this user's, and no living process has any more; where Python's
  // multiprocessing was seen, also its semaphores of this object's lifetime that nobody has, as
  // they are named but rarely held. How many. Looks at every process, if there is anything at all.
  std::size_t remove_leftovers();

 private:
  std::set<std::filesystem::path> candidates() const;

  std::set<std::filesystem::path> files_;
  bool python_ = false;
  timespec since_{};
};

}  // namespace yoke::supervisor
