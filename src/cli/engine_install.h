// `yoke engine install`: runs the tool that gets an engine, on this terminal. Main thread only.
#pragma once

#include <string>

#include "base/result.h"

namespace yoke::cli {

// The tool said that it could not install the engine.
inline constexpr ErrorCode kEngineInstallFailed{"engine_install_failed"};
// The tools that get engines, or the Python that runs them, are not there.
inline constexpr ErrorCode kEngineToolsMissing{"engine_tools_missing"};

struct EngineInstallOptions {
  std::string name;       // "llama.cpp" or "vllm".
  std::string backend{};  // Empty: what the tool finds right for this machine.
  std::string from{};     // An archive or directory to take it from.
  std::string dest{};     // A directory of engines other than Yoke's own.
};

// Takes as long as it takes: minutes. kInvalidArgument, kEngineToolsMissing, kEngineInstallFailed;
// kCancelled after Ctrl-C.
Result<void> engine_install(const EngineInstallOptions& options);

}  // namespace yoke::cli
