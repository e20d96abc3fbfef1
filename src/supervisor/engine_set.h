// The engines that are installed, asked what they can do, and those of them that a model may run
// with. On the control loop's thread.
#pragma once

#include <optional>
#include <vector>

#include "base/result.h"
#include "config/config.h"
#include "engines/backend_choice.h"
#include "hardware/machine.h"
#include "io/task.h"
#include "supervisor/engine_start.h"

namespace yoke::supervisor {

struct EngineSet {
  std::vector<Engine> llama_cpp;  // At most one for a backend.
  std::optional<Engine> vllm;
  std::optional<Error> no_vllm;  // Why there is none.
  // Installed ones that can't be used: they don't start, or see no device and would use the CPU.
  std::vector<engines::RuledOut> unusable;
};

// What a model may be started with, best first, and why the rest is not there.
struct EngineChoice {
  std::vector<Engine> engines;
  std::vector<engines::RuledOut> ruled_out;
  // Whose answers are taken for right: llama.cpp's on the CPU.
  std::optional<Engine> reference;
};

// Those that the models of the configuration need. Blocks no longer than each of them takes to say
// what it can do, at most ten seconds (vLLM: a minute). kEngineNotFound; kEngineUnusable or
// kSpawnFailed if llama.cpp is needed and none can be used.
io::Task<Result<EngineSet>> probe_engines(const config::Config& config);

// `machine`: null where no device was looked for.
EngineChoice choose_engines(const EngineSet& set, const hardware::Machine* machine,
                            const config::EnginesConfig& engines,
                            const config::LoadOptions& options);

// Asks the engines for GPUs that the models of the configuration would be tried with which devices
// they see, each with the environment that it would be started with. Those that see none, or can't
// say, choose_engines() rules out from then on. Blocks ten seconds at most for each of them.
io::Task<void> ask_devices(EngineSet& set, const hardware::Machine* machine,
                           const config::Config& config);

// Whether choose_engines() needs to know the devices.
bool needs_devices(const EngineSet& set, const config::LoadOptions& options);

}  // namespace yoke::supervisor
