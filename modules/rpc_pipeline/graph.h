// ggml's tensors and graphs as the protocol has them. Pure functions of what they are given.
#pragma once

#include <cstdint>
#include <span>

#include "rpc_pipeline/bytes.h"
#include "rpc_pipeline/wire.h"

struct ggml_tensor;
struct ggml_cgraph;

namespace rpc_pipeline {

class Endpoint;

/// `endpoint`: only a tensor in a buffer of this worker gets its remote address; null: of any.
WireTensor wire_tensor(const ggml_tensor* tensor, const Endpoint* endpoint = nullptr);

/// The body of GRAPH_COMPUTE: device (u32), count of nodes (u32), their ids (u64 each), count of
/// tensors (u32), the nodes and all that they are computed from (WireTensor each, sources first).
Bytes wire_graph(std::uint32_t device, std::span<const std::uint64_t> nodes,
                 std::span<const WireTensor> tensors);
Bytes wire_graph(std::uint32_t device, const ggml_cgraph& graph, const Endpoint& endpoint);

}  // namespace rpc_pipeline
