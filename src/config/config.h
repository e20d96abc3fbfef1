// The configuration file: TOML, read at the start and at every reload, every mistake in it reported
// at once with its line. examples/yoke.toml shows every key. Plain values; any thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/paths.h"
#include "base/result.h"
#include "config/load_options.h"

namespace yoke::config {

inline constexpr ErrorCode kConfigInvalid{"config_invalid"};
inline constexpr ErrorCode kConfigNotFound{"config_not_found"};
inline constexpr ErrorCode kApiKeyRequired{"api_key_required"};

inline constexpr std::size_t kMinApiKeyLength = 16;

struct ServerConfig {
  std::string host = "127.0.0.1";            // An IP address; IPv6 without brackets.
  std::uint16_t port = 8642;                 // 0: any free one.
  std::string api_key;                       // Empty: none is asked for. Never to be logged.
  std::vector<std::string> allowed_origins;  // For browsers (CORS); "*" is every origin.
  std::uint64_t max_request_bytes = 64u << 20;
  // How long a request waits for a model that is starting.
  std::chrono::milliseconds start_timeout = std::chrono::minutes(5);
  // How long an engine may take for the first byte of an answer: a long prompt takes its time.
  std::chrono::milliseconds first_byte_timeout = std::chrono::hours(1);
  // How long an engine may be silent in the middle of an answer.
  std::chrono::milliseconds idle_timeout = std::chrono::minutes(10);
  // How long an engine may make no progress while it has work before it is taken for hung; 0:
  // never.
  std::chrono::milliseconds hang_timeout = std::chrono::minutes(2);
  std::size_t threads = 0;  // I/O threads; 0: one per core.
  std::filesystem::path model_dir = yoke::model_dir();
  std::filesystem::path state_dir = yoke::state_dir();  // For state.db; of one server at a time.
  log::Level log_level = log::Level::kInfo;
};

struct EnginesConfig {
  std::optional<std::filesystem::path> llama_server{};  // Used in place of an installed engine.
  // A llama-server for one backend, by its name: llama_server_rocm = "...". Before installed ones.
  std::map<std::string, std::filesystem::path> llama_servers{};
  std::optional<std::filesystem::path> vllm{};       // The `vllm` program of an environment.
  std::optional<std::filesystem::path> rocm_path{};  // Where ROCm is installed, as /opt/rocm.
  bool software_devices = false;  // Also GPUs that the processor only plays (Mesa's lavapipe).
};

// How much of this machine models may have together, in bytes; none: what is free when `yoke serve`
// starts, without what is left to the system.
struct MemoryConfig {
  std::optional<std::uint64_t> host{};  // Of system memory; of an APU's unified memory.
  std::optional<std::uint64_t> gpu{};   // Of each GPU's own.
  friend bool operator==(const MemoryConfig&, const MemoryConfig&) = default;
};

// The KV caches that are kept on disk while their models are not loaded.
struct ContextsConfig {
  std::uint64_t max_bytes = 8ull << 30;  // Together; 0: none are kept.
  // Saved when nobody used the model for so long, and whenever it is stopped; 0: only then.
  std::chrono::milliseconds save_after = std::chrono::minutes(1);
  friend bool operator==(const ContextsConfig&, const ContextsConfig&) = default;
};

// Models that name it as their group.
struct GroupConfig {
  std::string name;
  bool one_at_a_time = false;         // Of its models only one is loaded at once.
  std::vector<std::string> not_with;  // None of it is loaded beside one of these groups.
  friend bool operator==(const GroupConfig&, const GroupConfig&) = default;
};

// When a model is in memory. What of this changes does not restart its engine.
struct ResidenceConfig {
  bool preload = true;  // Loaded when `yoke serve` starts, as far as memory goes.
  bool pinned = false;  // Loaded as soon as it can be, and never unloaded for another.
  int priority = 0;     // The higher, the sooner loaded and the later unloaded.
  std::string group;    // Of Config::groups; may be empty.
  std::chrono::milliseconds unload_after{0};  // When nobody used it for so long; 0: never.
  std::size_t max_waiting = 512;              // Requests that wait for it; more are refused.
  friend bool operator==(const ResidenceConfig&, const ResidenceConfig&) = default;
};

struct ModelConfig {
  std::string name;  // What requests call it.
  LoadOptions options;
  ResidenceConfig residence{};
  // What it is called in the catalogue, which says its model_path; empty: the file says that.
  std::string catalogue_name;
  int line = 0;  // Where its table begins in the file.
};

struct Config {
  std::filesystem::path file;
  ServerConfig server;
  EnginesConfig engines;
  MemoryConfig memory;
  ContextsConfig contexts;
  std::vector<GroupConfig> groups;
  std::vector<ModelConfig> models;  // In the file's order.
  std::vector<std::string> warnings;
};

// kConfigNotFound, kIo, or what parse_config reports.
Result<Config> load_config(const std::filesystem::path& file);

// `file` is named in messages, and relative paths of key files start at its directory. The message
// has one line "FILE:LINE: ..." per mistake. kConfigInvalid; kApiKeyRequired if that is all.
Result<Config> parse_config(std::string_view text, const std::filesystem::path& file);

// The rule that nothing listens beyond this machine without a key, for a ServerConfig that was
// changed after it was read. kApiKeyRequired.
Result<void> check_exposure(const ServerConfig& server);

// Whether a model may be called so: letters, digits and . _ : / + @ -, at most 128 of them.
bool is_model_name(std::string_view name);

}  // namespace yoke::config
