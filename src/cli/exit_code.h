// What the program's exit code says. Pure; any thread.
#pragma once

#include "base/error.h"

namespace yoke::cli {

// The command line itself is wrong.
inline constexpr ErrorCode kUsage{"usage"};

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitInterrupted = 130;  // As shells report a program that Ctrl-C ended.

inline int exit_code(const Error& error) {
  if (error.code == kUsage || error.code == kInvalidArgument) return kExitUsage;
  if (error.code == kCancelled) return kExitInterrupted;
  return kExitFailure;
}

}  // namespace yoke::cli
