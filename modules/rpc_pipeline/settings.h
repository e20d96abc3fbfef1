// What the environment says; docs in README.md. Values, read once at the start.
#pragma once

#include <chrono>
#include <map>
#include <string>

namespace rpc_pipeline {

struct Settings {
  bool enabled = false;                                 ///< YOKE_RPC_CLIENT=pipelined
  std::map<std::string, std::string> names;             ///< YOKE_RPC_WORKERS: endpoint -> name
  std::chrono::milliseconds timeout{120'000};           ///< YOKE_RPC_TIMEOUT_MS
  std::chrono::milliseconds connect_timeout{10'000};    ///< YOKE_RPC_CONNECT_TIMEOUT_MS
  std::string hashes;                                   ///< YOKE_RPC_HASHES
  bool whole_masks = false;                             ///< YOKE_RPC_MASKS=whole
  std::uint64_t max_queued = std::uint64_t{256} << 20;  ///< Bytes that wait for one worker.
  std::uint64_t max_held = std::uint64_t{64}
                           << 20;  ///< Bytes read from one worker, not yet passed on.

  /// The worker's name, or the endpoint where it has none.
  std::string name_of(const std::string& endpoint) const;
};

/// From the environment; what can't be read as meant stays at its default.
Settings settings_from_environment();

/// Of the text of YOKE_RPC_WORKERS, "HOST:PORT=NAME,...".
std::map<std::string, std::string> parse_names(const std::string& text);

}  // namespace rpc_pipeline
