// Asks an engine what it can do, by running it. On the thread that runs the caller's executor,
// which must live as long as that takes (child_process.h).
#pragma once

#include <vector>

#include "base/result.h"
#include "engines/capabilities.h"
#include "engines/devices.h"
#include "engines/install.h"
#include "io/task.h"

namespace yoke::supervisor {

// Runs `--version` and `--help`, each for ten seconds at most. kSpawnFailed, or kEngineUnusable.
io::Task<Result<engines::Capabilities>> probe_llama_cpp(engines::EngineInstall install);

// Runs `--list-devices`, for ten seconds at most: it loads the drivers of GPUs, which may hang or
// crash. kSpawnFailed, or kEngineUnusable.
io::Task<Result<std::vector<engines::EngineDevice>>> probe_devices(engines::EngineInstall install);

}  // namespace yoke::supervisor
