#include "base/exit_status.h"

#include <cstring>

#include <fmt/format.h>

namespace yoke {

std::string ExitStatus::describe() const {
  if (signal == 0) return fmt::format("exit code {}", code);
  const char* name = ::sigdescr_np(signal);
  return fmt::format("signal {} ({})", signal, name != nullptr ? name : "unknown");
}

}  // namespace yoke
