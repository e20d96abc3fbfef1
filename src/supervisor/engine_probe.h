// Asks an engine what it can do, by running it. On the thread that runs the caller's executor,
// which must live as long as that takes (child_process.h).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "engines/capabilities.h"
#include "engines/devices.h"
#include "engines/install.h"
#include "io/task.h"

namespace yoke::supervisor {

using Variables = std::vector<std::pair<std::string, std::string>>;

// Runs `--version` and `--help`, each for ten seconds at most. kSpawnFailed, or kEngineUnusable.
io::Task<Result<engines::Capabilities>> probe_llama_cpp(engines::EngineInstall install);

// Runs `--list-devices`, for ten seconds at most: it loads the drivers of GPUs, which may hang or
// crash. `env` is what its backend needs. kSpawnFailed, or kEngineUnusable.
io::Task<Result<std::vector<engines::EngineDevice>>> probe_devices(engines::EngineInstall install,
                                                                   Variables env = {});

// The same llama-server with its backend, which is asked for with probe_devices() if nobody knows
// it; it stays empty where the devices say nothing.
io::Task<engines::EngineInstall> with_backend(engines::EngineInstall install);

// What was noted when vLLM was installed; of one that Yoke did not install what its help says,
// which takes it ten seconds and more, a minute at most. kSpawnFailed, or kEngineUnusable.
io::Task<Result<engines::Capabilities>> probe_vllm(engines::EngineInstall install);

// Runs `--version`, for a minute at most: vLLM loads PyTorch first. kSpawnFailed, or
// kEngineUnusable.
io::Task<Result<std::string>> probe_vllm_version(engines::EngineInstall install);

}  // namespace yoke::supervisor
