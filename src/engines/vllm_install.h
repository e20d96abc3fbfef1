// Where vLLM is installed. Looks at files only; any thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/config.h"
#include "engines/capabilities.h"
#include "engines/install.h"

namespace yoke::engines {

// The vLLM to use: the one in the configuration, else the newest in base/paths.h's engine_dirs()
// (vllm-<version>/<backend>/ with its engine.json; the program is bin/vllm), else the one on PATH.
// kEngineNotFound.
Result<EngineInstall> find_vllm(const config::EnginesConfig& engines);

// All of them, the preferred first. What can't be used is said in `problems`.
std::vector<EngineInstall> find_vllm_installs(const config::EnginesConfig& engines,
                                              std::vector<std::string>& problems);

// What the installer noted of it, as asking vLLM takes ten seconds. kEngineNotFound if it noted
// nothing (a vLLM that Yoke did not install): then ask with kVllmHelp and parse_vllm_help().
Result<Capabilities> stored_capabilities(const EngineInstall& install);

}  // namespace yoke::engines
