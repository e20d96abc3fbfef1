#include "rpc_pipeline/graph.h"

#include <algorithm>
#include <cstring>
#include <unordered_set>
#include <vector>

#include "ggml-backend-impl.h"
#include "ggml-impl.h"
#include "rpc_pipeline/buffer.h"

namespace rpc_pipeline {

static_assert(GGML_MAX_DIMS == 4 && GGML_MAX_SRC == 10 && GGML_MAX_NAME == 64);
static_assert(GGML_MAX_OP_PARAMS == sizeof(WireTensor::op_params));

namespace {

std::uint64_t id_of(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer); }

// Collects tensors so that each comes after those that it is computed from.
class Collector {
 public:
  Collector(const ggml_cgraph& graph, const Endpoint& endpoint)
      : graph_(graph), endpoint_(endpoint) {
    const auto nodes = static_cast<std::size_t>(graph.n_nodes);
    seen_.reserve(4 * nodes);
    tensors_.reserve(2 * nodes);
  }

  // Iterative: graphs are thousands of nodes deep.
  void add(const ggml_tensor* tensor) {
    visit(tensor);
    while (!stack_.empty()) {
      Visit& top = stack_.back();
      if (top.next <= GGML_MAX_SRC) {
        const int index = top.next++;
        visit(index < GGML_MAX_SRC ? top.tensor->src[index] : top.tensor->view_src);
      } else {
        tensors_.push_back(serialized(top.tensor));
        stack_.pop_back();
      }
    }
  }

  const std::vector<WireTensor>& tensors() const { return tensors_; }

 private:
  struct Visit {
    const ggml_tensor* tensor;
    int next = 0;  // Source to be visited next; GGML_MAX_SRC: the tensor that it is a view of.
  };

  void visit(const ggml_tensor* tensor) {
    if (tensor != nullptr && seen_.insert(tensor).second) stack_.push_back({tensor});
  }

  WireTensor serialized(const ggml_tensor* tensor) const {
    WireTensor result = wire_tensor(tensor, &endpoint_);
    const std::size_t slot = ggml_hash_find(&graph_.visited_hash_set, tensor);
    if (slot != GGML_HASHSET_FULL && ggml_bitset_get(graph_.visited_hash_set.used, slot)) {
      result.use_count = graph_.use_counts[slot];
    }
    return result;
  }

  const ggml_cgraph& graph_;
  const Endpoint& endpoint_;
  std::vector<Visit> stack_;
  std::unordered_set<const ggml_tensor*> seen_;
  std::vector<WireTensor> tensors_;
};

}  // namespace

WireTensor wire_tensor(const ggml_tensor* tensor, const Endpoint* endpoint) {
  WireTensor result{};
  if (tensor == nullptr) return result;
  result.id = id_of(tensor);
  result.type = static_cast<std::uint32_t>(tensor->type);
  if (const RemoteBuffer* buffer = remote_buffer(tensor->buffer);
      buffer != nullptr && (endpoint == nullptr || endpoint == &buffer->endpoint)) {
    result.buffer = buffer->id;
    result.data = id_of(tensor->data);
  }
  for (std::size_t i = 0; i < GGML_MAX_DIMS; ++i) {
    result.ne[i] = static_cast<std::uint32_t>(tensor->ne[i]);
    result.nb[i] = static_cast<std::uint32_t>(tensor->nb[i]);
  }
  result.op = static_cast<std::uint32_t>(tensor->op);
  std::memcpy(result.op_params, tensor->op_params, sizeof(result.op_params));
  result.flags = tensor->flags;
  for (std::size_t i = 0; i < GGML_MAX_SRC; ++i) result.src[i] = id_of(tensor->src[i]);
  result.view_src = id_of(tensor->view_src);
  result.view_offs = tensor->view_offs;
  const std::size_t length = ::strnlen(tensor->name, sizeof(result.name) - 1);
  std::memcpy(result.name, tensor->name, length);
  return result;
}

Bytes wire_graph(std::uint32_t device, std::span<const std::uint64_t> nodes,
                 std::span<const WireTensor> tensors) {
  const auto node_count = static_cast<std::uint32_t>(nodes.size());
  const auto tensor_count = static_cast<std::uint32_t>(tensors.size());
  Bytes body(3 * sizeof(std::uint32_t) + nodes.size_bytes() + tensors.size_bytes());
  std::byte* out = body.data();
  const auto put = [&out](const void* data, std::size_t size) {
    std::memcpy(out, data, size);
    out += size;
  };
  put(&device, sizeof(device));
  put(&node_count, sizeof(node_count));
  put(nodes.data(), nodes.size_bytes());
  put(&tensor_count, sizeof(tensor_count));
  put(tensors.data(), tensors.size_bytes());
  return body;
}

Bytes wire_graph(std::uint32_t device, const ggml_cgraph& graph, const Endpoint& endpoint) {
  Collector collector(graph, endpoint);
  std::vector<std::uint64_t> nodes;
  nodes.reserve(static_cast<std::size_t>(graph.n_nodes));
  for (int i = 0; i < graph.n_nodes; ++i) {
    collector.add(graph.nodes[i]);
    nodes.push_back(id_of(graph.nodes[i]));
  }
  return wire_graph(device, nodes, collector.tensors());
}

}  // namespace rpc_pipeline
