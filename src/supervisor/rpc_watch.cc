#include "supervisor/rpc_watch.h"

#include <fstream>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "engines/rpc_client.h"

namespace yoke::supervisor {

using config::RpcClient;

namespace {
constexpr std::size_t kMaxMapsBytes = std::size_t{4} << 20;
constexpr std::string_view kLoaded = "loaded RPC backend from ";
}  // namespace

bool RpcWatch::see(std::string_view line) {
  if (auto why = engines::why_rpc_client_refused(line)) {
    fall_back(std::move(*why));
  } else if (line.find(kLoaded) != std::string_view::npos) {
    if (const auto client = engines::loaded_rpc_client(line)) found(*client);
  }
  return engines::says_worker_is_missing(line);
}

void RpcWatch::look_at(pid_t pid) {
  if (client_) return;
  std::ifstream in(fmt::format("/proc/{}/maps", pid), std::ios::binary);
  std::string maps(kMaxMapsBytes, '\0');
  in.read(maps.data(), static_cast<std::streamsize>(maps.size()));
  maps.resize(static_cast<std::size_t>(in.gcount()));
  if (const auto client = engines::loaded_rpc_client(maps)) found(*client);
}

void RpcWatch::found(RpcClient client) {
  if (client == RpcClient::kStock && asked_ == RpcClient::kPipelined) {
    fall_back("it has no libggml-rpc-yoke.so beside it");
  }
  client_ = client;
}

void RpcWatch::fall_back(std::string why) {
  if (asked_ != RpcClient::kPipelined || !why_other_.empty()) return;
  client_ = RpcClient::kStock;
  why_other_ = fmt::format(
      "The engine took llama.cpp's own RPC client, with which workers wait for each other: {}. "
      "`make engine` builds the module for it; rpc_client = \"stock\" says that this is meant so.",
      why);
  log::warning("Model {}: {}", model_, why_other_);
}

}  // namespace yoke::supervisor
