// How llama-server is started and asked whether it is ready. Pure, but for a look at the model
// file's size; any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "config/load_options.h"
#include "engines/capabilities.h"
#include "engines/command_line.h"
#include "engines/install.h"
#include "engines/memory_lock.h"

namespace yoke::engines {

// Environment variables with this prefix act on llama-server like flags (LLAMA_ARG_HOST,
// LLAMA_API_KEY): it must not inherit any.
inline constexpr std::string_view kLlamaEnvPrefix = "LLAMA_";

// The engine listens on 127.0.0.1:port. `alias` is the model's name in its answers. `lock_limit`
// is how many bytes it may lock in memory, nullopt for any number. `slot_dir` is where a language
// model's KV caches may be saved and restored (POST /slots); empty for nowhere.
// kInvalidArgument for extra_args that Yoke sets itself; kEngineUnusable.
Result<CommandLine> llama_command_line(
    const EngineInstall& install, const Capabilities& capabilities,
    const config::LoadOptions& options, std::string_view alias, std::uint16_t port,
    std::optional<std::uint64_t> lock_limit = memory_lock_limit(),
    const std::filesystem::path& slot_dir = {});

// GET this path to see whether a llama-server is ready. It answers before the model is loaded.
inline constexpr std::string_view kLlamaHealthPath = "/health";

enum class Health { kReady, kLoading, kFailing };

// What the status of that answer means: 200 ready, 503 still loading.
Health health_of_status(int http_status);

}  // namespace yoke::engines
