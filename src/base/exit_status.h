// How a process ended. A value; any thread.
#pragma once

#include <string>

namespace yoke {

struct ExitStatus {
  int code = 0;    // Meaningful when signal is 0.
  int signal = 0;  // The signal that ended it, or 0.

  bool clean() const { return code == 0 && signal == 0; }
  // "exit code 1", "signal 11 (Segmentation fault)".
  std::string describe() const;
  // As a shell reports it: 128 + signal, or the code.
  int shell_code() const { return signal != 0 ? 128 + signal : code; }
  friend bool operator==(const ExitStatus&, const ExitStatus&) = default;
};

}  // namespace yoke
