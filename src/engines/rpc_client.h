// What a llama-server with RPC servers needs besides its flags, and what it says about them. Its
// module for them is llama.cpp's own, or Yoke's (modules/rpc_pipeline), which it takes if the
// environment asks for that. Pure, but for a look at the engine's files; any thread.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/load_options.h"
#include "engines/install.h"

namespace yoke::engines {

// Environment variables for Yoke's module; none where the options don't want it. `hashes`: the file
// where it keeps the hashes of the model's weights; empty for none.
std::vector<std::pair<std::string, std::string>> rpc_environment(
    const EngineInstall& install, const config::LoadOptions& options,
    const std::filesystem::path& hashes);

// The file of hashes in `dir` for the options' model as it is now; empty if they want none, or
// `dir` is empty.
std::filesystem::path rpc_hash_file(const std::filesystem::path& dir,
                                    const config::LoadOptions& options);

// A worker that the engine can't go on without.
struct LostWorker {
  std::string who;         // "desk-2 (127.0.0.1:50053)"; empty where the engine doesn't say it.
  std::string reason;      // "connection closed by the worker"
  bool was_there = false;  // It was lost, and not just out of reach at the start.
};

// What a line of the log says about one.
std::optional<LostWorker> lost_worker(std::string_view line);

// The same for the user, with what to do.
std::string describe(const LostWorker& worker);

// The engine lives on without one of its workers: it can't compute any more, or puts that one's
// layers where nobody planned them.
bool says_worker_is_missing(std::string_view line);

// Which client the engine took, from a line of its log or from what it has mapped
// (/proc/PID/maps); none if that doesn't tell.
std::optional<config::RpcClient> loaded_rpc_client(std::string_view line_or_maps);

// Why Yoke's module refused to be loaded, if the line says that.
std::optional<std::string> why_rpc_client_refused(std::string_view line);

}  // namespace yoke::engines
