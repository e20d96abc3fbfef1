// How a model's engine is started and asked whether it is ready, whichever engine it is.
// Pure, but for looks at the model's size; any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "config/load_options.h"
#include "engines/capabilities.h"
#include "engines/command_line.h"
#include "engines/install.h"
#include "hardware/machine.h"

namespace yoke::engines {

struct Launch {
  const EngineInstall& install;
  const Capabilities& capabilities;
  const config::LoadOptions& options;  // With the decisions in it (decisions.h).
  std::string_view alias;              // The model's name in the engine's answers.
  std::uint16_t port = 0;
  std::string_view key;                        // That the engine then asks for; secret.
  const hardware::Machine* machine = nullptr;  // Null where no device was looked for.
  // Where the engine may write and read the KV caches of its slots; empty for nowhere. It has to
  // be there before the engine starts.
  std::filesystem::path slot_dir{};
  std::filesystem::path rpc_hashes{};  // rpc_environment(); its directory has to be there.
};

// The key is in `env`, where other users can't see it.
Result<CommandLine> command_line(const Launch& launch);

// Prefixes of environment variables that act on the engine like flags: not to be inherited.
std::vector<std::string> hidden_env_prefixes(EngineKind kind);

}  // namespace yoke::engines
