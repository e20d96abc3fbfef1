#include "engines/rpc_client.h"

#include <cstdlib>
#include <system_error>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engines/model_format.h"

namespace yoke::engines {
namespace {

namespace fs = std::filesystem;
using config::LoadOptions;
using config::RpcClient;

constexpr std::string_view kModule = "libggml-rpc-yoke.so";
constexpr std::string_view kAnyModule = "libggml-rpc";
constexpr std::string_view kNoPrefetch = "libyoke-no-prefetch.so";

// Lines of Yoke's module.
constexpr std::string_view kLost = "yoke-rpc: worker lost: ";
constexpr std::string_view kUnusable = "yoke-rpc: cannot use worker ";
constexpr std::string_view kRefused = "yoke-rpc: not loaded: ";
// Last words of llama.cpp's.
constexpr std::string_view kStockLost = "Remote RPC server crashed or returned malformed response";
constexpr std::string_view kStockConnect = "Failed to connect to ";
constexpr std::string_view kStockHandshake = "RPC handshake failed for ";

// What stands behind `mark`.
std::optional<std::string_view> after(std::string_view line, std::string_view mark) {
  const std::size_t at = line.find(mark);
  if (at == std::string_view::npos) return std::nullopt;
  line.remove_prefix(at + mark.size());
  while (line.ends_with('\r') || line.ends_with(' ')) line.remove_suffix(1);
  return line;
}

// "NAME (HOST:PORT): REASON"
LostWorker parse_worker(std::string_view text, bool was_there) {
  constexpr std::string_view kEnd = "): ";
  const std::size_t end = text.find(kEnd);
  if (end == std::string_view::npos) return {std::string(text), "", was_there};
  return {std::string(text.substr(0, end + 1)), std::string(text.substr(end + kEnd.size())),
          was_there};
}

std::string workers_of(const LoadOptions& options) {
  std::vector<std::string> workers;
  for (const config::RpcServer& server : options.rpc_servers) {
    workers.push_back(fmt::format("{}={}", server.endpoint, server.name));
  }
  return fmt::format("{}", fmt::join(workers, ","));
}

// It keeps llama.cpp from reading all of a file of which this machine computes nothing.
std::optional<std::string> preload(const EngineInstall& install, const LoadOptions& options) {
  const bool all_remote = install.backend == "cpu" && options.n_gpu_layers < 0;
  const fs::path library = install.dir / kNoPrefetch;
  std::error_code error;
  if (!all_remote || !fs::is_regular_file(library, error)) return std::nullopt;
  const char* others = std::getenv("LD_PRELOAD");
  if (others == nullptr || *others == '\0') return library.string();
  return fmt::format("{}:{}", library.string(), others);
}

}  // namespace

std::vector<std::pair<std::string, std::string>> rpc_environment(const EngineInstall& install,
                                                                 const LoadOptions& options,
                                                                 const fs::path& hashes) {
  if (!config::uses_rpc(options) || options.rpc_client != RpcClient::kPipelined) return {};
  std::vector<std::pair<std::string, std::string>> variables{{"YOKE_RPC_CLIENT", "pipelined"}};
  if (options.rpc_servers.empty()) return variables;
  variables.emplace_back("YOKE_RPC_WORKERS", workers_of(options));
  variables.emplace_back("YOKE_RPC_TIMEOUT_MS", std::to_string(options.rpc_timeout.count()));
  if (!hashes.empty()) variables.emplace_back("YOKE_RPC_HASHES", hashes.string());
  if (auto library = preload(install, options)) {
    variables.emplace_back("LD_PRELOAD", std::move(*library));
  }
  return variables;
}

fs::path rpc_hash_file(const fs::path& dir, const LoadOptions& options) {
  const bool wanted = !options.rpc_servers.empty() && options.rpc_client == RpcClient::kPipelined;
  if (dir.empty() || !wanted) return {};
  constexpr std::size_t kMaxName = 128;
  const std::string name = options.model_path.filename().string().substr(0, kMaxName);
  return dir / fmt::format("{}-{}.txt", name, model_stamp(options.model_path));
}

std::optional<LostWorker> lost_worker(std::string_view line) {
  if (const auto text = after(line, kLost)) return parse_worker(*text, true);
  if (const auto text = after(line, kUnusable)) return parse_worker(*text, false);
  if (after(line, kStockLost)) return LostWorker{"", "it crashed or closed the connection", true};
  if (const auto who = after(line, kStockConnect)) {
    return LostWorker{std::string(*who), "it can't be reached", false};
  }
  if (const auto who = after(line, kStockHandshake)) {
    return LostWorker{std::string(*who), "it gave no proper answer", false};
  }
  return std::nullopt;
}

std::string describe(const LostWorker& worker) {
  const std::string who = worker.who.empty() ? "A worker" : "The worker " + worker.who;
  const std::string reason = worker.reason.empty() ? "" : ": " + worker.reason;
  return fmt::format(
      "{} {}{}. See that its machine, its ggml-rpc-server and the tunnel to it are up.", who,
      worker.was_there ? "is lost" : "can't be used", reason);
}

bool says_worker_is_missing(std::string_view line) {
  return after(line, kLost).has_value() || after(line, kUnusable).has_value();
}

std::optional<RpcClient> loaded_rpc_client(std::string_view line_or_maps) {
  bool pipelined = false;
  for (std::size_t at = 0; (at = line_or_maps.find(kAnyModule, at)) != std::string_view::npos;
       at += kAnyModule.size()) {
    // Both may be mapped: Yoke's is looked at first, and another one only loaded in its place.
    if (!line_or_maps.substr(at).starts_with(kModule)) return RpcClient::kStock;
    pipelined = true;
  }
  return pipelined ? std::optional(RpcClient::kPipelined) : std::nullopt;
}

std::optional<std::string> why_rpc_client_refused(std::string_view line) {
  const auto why = after(line, kRefused);
  return why ? std::optional(std::string(*why)) : std::nullopt;
}

}  // namespace yoke::engines
