// Asks an engine what it can do, by running it. On the control loop's thread.
#pragma once

#include "base/result.h"
#include "engines/capabilities.h"
#include "engines/install.h"
#include "io/task.h"

namespace yoke::supervisor {

// Runs `--version` and `--help`, each for ten seconds at most. kSpawnFailed, or kEngineUnusable.
io::Task<Result<engines::Capabilities>> probe_llama_cpp(engines::EngineInstall install);

}  // namespace yoke::supervisor
