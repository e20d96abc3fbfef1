// How vLLM is started. Pure, but for a look at the model's directory; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <span>
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

// Variables that act on vLLM and that it must not inherit.
inline constexpr std::string_view kVllmEnvPrefix = "VLLM_";

// Arguments that make vLLM print all its options, which takes it ten seconds and more.
inline constexpr std::array<std::string_view, 2> kVllmHelp{"serve", "--help=all"};

// From what that prints, and the version as the installation or `--version` gives it.
// kEngineUnusable if there are no options in it.
Result<Capabilities> parse_vllm_help(std::string_view version, std::string_view help_output);

// It listens on 127.0.0.1:port and serves the model as `alias`. `machine` may be null: then it is
// for the CPU. kInvalidArgument for extra_args that Yoke sets itself; kEngineUnusable.
Result<CommandLine> vllm_command_line(const EngineInstall& install,
                                      const Capabilities& capabilities,
                                      const config::LoadOptions& options, std::string_view alias,
                                      std::uint16_t port, const hardware::Machine* machine);

// How much KV cache it is told to have; 0 where gpu_memory_utilization says how much memory it
// takes in all. `machine` may be null.
std::uint64_t vllm_cache_bytes(const config::LoadOptions& options, std::string_view backend,
                               const hardware::Machine* machine);

// For a model that is too big for one machine: what to start on each, the first being the head, in
// vLLM's own multi-node mode. `hosts`: the address of each. kInvalidArgument for less than two.
Result<std::vector<CommandLine>> vllm_multi_node(const EngineInstall& install,
                                                 const Capabilities& capabilities,
                                                 const config::LoadOptions& options,
                                                 std::string_view alias, std::uint16_t port,
                                                 std::span<const std::string> hosts);

}  // namespace yoke::engines
