#include "engines/launch.h"

#include <algorithm>
#include <iterator>

#include "engines/llama_cpp.h"
#include "engines/rpc_client.h"
#include "engines/vllm.h"

namespace yoke::engines {

Result<CommandLine> command_line(const Launch& launch) {
  const bool vllm = launch.install.kind == EngineKind::kVllm;
  auto command =
      vllm ? vllm_command_line(launch.install, launch.capabilities, launch.options, launch.alias,
                               launch.port, launch.machine)
           : llama_command_line(launch.install, launch.capabilities, launch.options, launch.alias,
                                launch.port, memory_lock_limit(), launch.slot_dir);
  if (command && !vllm) {
    auto variables = rpc_environment(launch.install, launch.options, launch.rpc_hashes);
    std::ranges::move(variables, std::back_inserter(command->env));
  }
  if (command && !launch.key.empty()) {
    command->env.emplace_back(vllm ? "VLLM_API_KEY" : "LLAMA_API_KEY", launch.key);
  }
  return command;
}

std::vector<std::string> hidden_env_prefixes(EngineKind kind) {
  // Yoke's own too: one of them is a key.
  const std::string_view own = kind == EngineKind::kVllm ? kVllmEnvPrefix : kLlamaEnvPrefix;
  return {std::string(own), "YOKE_"};
}

}  // namespace yoke::engines
