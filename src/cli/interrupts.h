// Ctrl-C as something that a call can wait for, in place of the end of the program. One object at a
// time in a process; all calls on the main thread.
#pragma once

#include <csignal>

#include "base/unique_fd.h"
#include "io/task.h"

namespace yoke::cli {

class Interrupts {
 public:
  // Takes SIGINT over until the destructor gives it back. A SIGINT that was ignored stays ignored.
  // Throws std::system_error when there is no descriptor left.
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // Ends when Ctrl-C has been pressed since the last forget().
  io::Task<void> pressed() const;
  void forget();

 private:
  UniqueFd event_;
  struct sigaction previous_{};
};

}  // namespace yoke::cli
