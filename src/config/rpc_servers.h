// RPC servers (llama.cpp's ggml-rpc-server) that take layers of a model, as the configuration names
// them. Plain values; pure; any thread.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace yoke::config {

// What llama.cpp reaches them with: Yoke's module for it, or its own.
enum class RpcClient { kPipelined, kStock };

// As it is written in the configuration: "pipelined", "stock".
std::string_view name_of(RpcClient client);

struct RpcServer {
  std::string endpoint;  // "127.0.0.1:50052"
  std::string name;      // For messages; the endpoint where the user gave none.
  friend bool operator==(const RpcServer&, const RpcServer&) = default;
};

// llama.cpp computes on 16 devices at most, the CPU among them.
inline constexpr std::size_t kMaxRpcServers = 15;

// From "127.0.0.1:50052" or "desk-2=127.0.0.1:50052". Only addresses of this machine are taken: the
// protocol has neither keys nor encryption. None may be there twice. kInvalidArgument.
Result<std::vector<RpcServer>> parse_rpc_servers(std::span<const std::string> texts);

}  // namespace yoke::config
