#include "rpc_pipeline/fill.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <mutex>
#include <utility>
#include <vector>

#include "ggml-impl.h"
#include "rpc_pipeline/buffer.h"
#include "rpc_pipeline/compact_matrix.h"
#include "rpc_pipeline/device.h"
#include "rpc_pipeline/graph.h"

namespace rpc_pipeline {
namespace {

constexpr std::uint64_t kScratchSize = std::uint64_t{4} << 20;
// Below, one more computation costs a worker as much time as the bytes do.
constexpr std::uint64_t kLeastSize = std::uint64_t{256} << 10;
// With few rows it is no prompt: the worker shall keep the graph that computes the next token.
constexpr std::uint64_t kLeastRows = 64;
// llama.cpp pads masks to more than this. Blocks are then never of one column, which CUDA and
// Vulkan would take for a transposed matrix, and copy as one.
constexpr std::uint64_t kColumnStep = 32;

// Of the worker's memory.
struct Place {
  std::uint64_t buffer = 0;
  std::uint64_t address = 0;
  ggml_type type = GGML_TYPE_F16;
};

MatrixShape shape_of(const ggml_tensor& tensor) {
  return {ggml_type_size(tensor.type), static_cast<std::uint64_t>(tensor.ne[0]),
          static_cast<std::uint64_t>(ggml_nrows(&tensor))};
}

WireTensor matrix_of(const Place& place, std::uint64_t id, std::uint64_t columns,
                     std::uint64_t rows, std::uint64_t stride) {
  const std::uint64_t element = ggml_type_size(place.type);
  // Of dimensions with one element; never the size of an element, which some backends take for a
  // sign of a transposed tensor.
  const std::uint64_t whole = rows * std::max(stride, columns * element);
  WireTensor tensor{};
  tensor.id = id;
  tensor.type = static_cast<std::uint32_t>(place.type);
  tensor.buffer = place.buffer;
  tensor.data = place.address;
  const std::uint64_t ne[] = {columns, rows, 1, 1};
  const std::uint64_t nb[] = {element, stride, whole, whole};
  for (std::size_t i = 0; i < GGML_MAX_DIMS; ++i) {
    tensor.ne[i] = static_cast<std::uint32_t>(ne[i]);
    tensor.nb[i] = static_cast<std::uint32_t>(nb[i]);
  }
  return tensor;
}

// The graph is one of GGML_OP_CPY: every backend has it for these types, and with any strides, as
// llama.cpp's own graphs use it.
Message fill_graph(const RemoteDevice& device, const CompactMatrix& matrix,
                   const MatrixShape& shape, const Place& target) {
  std::vector<std::uint64_t> nodes;
  std::vector<WireTensor> tensors;
  std::uint64_t id = 0;
  for (const StridedCopy& copy : matrix.copies) {
    const Place from{device.fill_scratch.buffer, device.fill_scratch.address + copy.from,
                     target.type};
    const Place to{target.buffer, target.address + copy.to, target.type};
    const WireTensor source = matrix_of(from, ++id, copy.columns, copy.rows, copy.from_stride);
    const WireTensor view = matrix_of(to, ++id, copy.columns, copy.rows, shape.row_size());
    WireTensor node = view;
    node.id = ++id;
    node.op = GGML_OP_CPY;
    node.flags = GGML_TENSOR_FLAG_COMPUTE;
    node.src[0] = source.id;
    node.src[1] = view.id;
    node.view_src = view.id;
    nodes.push_back(node.id);
    tensors.insert(tensors.end(), {source, view, node});
  }
  Message message;
  message.command = Command::kGraphCompute;
  message.body = wire_graph(device.index, nodes, tensors);
  message.fills = MemoryRange{target.address, target.address + shape.size()};
  return message;
}

Message scratch_data(const RemoteDevice& device, const CompactMatrix& matrix) {
  const Place scratch{device.fill_scratch.buffer, device.fill_scratch.address, GGML_TYPE_F32};
  SetTensorHead head{};
  const std::uint64_t elements = matrix.packed.size() / sizeof(float);
  head.tensor = matrix_of(scratch, 1, elements, 1, matrix.packed.size());
  std::byte* room = nullptr;
  Message message = set_request(head, matrix.packed.size(), room);
  std::memcpy(room, matrix.packed.data(), matrix.packed.size());
  return message;
}

void post_fill(RemoteDevice& device, const CompactMatrix& matrix, const MatrixShape& shape,
               const Place& target) {
  const std::lock_guard lock(device.graphs_mutex);
  device.endpoint.post(scratch_data(device, matrix));
  device.endpoint.post(fill_graph(device, matrix, shape, target));
  device.stored_graph = 0;
}

// A mask of two sequences, with every kind of copy in it.
template <typename Element>
std::vector<Element> sample(const MatrixShape& shape, Element hidden) {
  std::vector<Element> elements(shape.columns * shape.rows, hidden);
  for (std::uint64_t row = 0; row < shape.rows; ++row) {
    const std::uint64_t half = row < shape.rows / 2 ? 0 : shape.columns / 2;
    std::fill_n(elements.begin() + static_cast<std::ptrdiff_t>(row * shape.columns + half),
                41 + row, Element{0});
  }
  return elements;
}

template <typename Element>
bool spreads(RemoteDevice& device, ggml_type type, Element hidden) {
  const MatrixShape shape{sizeof(Element), 512, 96};
  const std::vector<Element> expected = sample(shape, hidden);
  const std::span bytes = std::as_bytes(std::span(expected));
  const auto matrix = compact(bytes, shape, kScratchSize / 2);
  if (!matrix) return false;
  // The scratch's second half is the target.
  const Place target{device.fill_scratch.buffer, device.fill_scratch.address + kScratchSize / 2,
                     type};
  post_fill(device, *matrix, shape, target);
  std::vector<Element> got(expected.size());
  GetTensorRequest body{};
  body.tensor = matrix_of(target, 1, shape.columns, shape.rows, shape.row_size());
  body.size = shape.size();
  Message get = request(Command::kGetTensor, body);
  get.reply_size = shape.size();
  get.into = reinterpret_cast<std::byte*>(got.data());
  return device.endpoint.call(std::move(get)) &&
         std::memcmp(got.data(), expected.data(), bytes.size()) == 0;
}

}  // namespace

void prepare_fills(RemoteDevice& device) {
  if (device.loop.settings().whole_masks) return;
  std::call_once(device.fills_prepared, [&device] {
    const auto memory = allocate(device, kScratchSize);
    if (!memory) return;
    device.fill_scratch = *memory;
    constexpr std::uint16_t kMinusInfinity = 0xfc00;  // In half precision.
    const bool spreads_all =
        spreads(device, GGML_TYPE_F16, kMinusInfinity) &&
        spreads(device, GGML_TYPE_F32, -std::numeric_limits<float>::infinity());
    if (spreads_all || device.endpoint.lost()) return;
    GGML_LOG_WARN("yoke-rpc: %s of %s copies strided data wrongly; masks are sent whole\n",
                  device.name.c_str(), device.description.c_str());
    device.fill_scratch = {};
  });
}

bool fill_tensor(const RemoteBuffer& buffer, const ggml_tensor* tensor, const void* data,
                 std::size_t size) {
  RemoteDevice& device = buffer.device;
  if (device.fill_scratch.buffer == 0 || size < kLeastSize) return false;
  if (tensor->type != GGML_TYPE_F16 && tensor->type != GGML_TYPE_F32) return false;
  const MatrixShape shape = shape_of(*tensor);
  const bool whole = size == shape.size() && ggml_is_contiguous(tensor);
  if (!whole || size > std::numeric_limits<std::uint32_t>::max()) return false;
  if (shape.rows < kLeastRows || shape.columns % kColumnStep != 0) return false;
  const std::span bytes(static_cast<const std::byte*>(data), size);
  const auto matrix = compact(bytes, shape, std::min<std::uint64_t>(kScratchSize, size / 4));
  if (!matrix) return false;
  const auto address = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(tensor->data));
  post_fill(device, *matrix, shape, {buffer.id, address, tensor->type});
  return true;
}

}  // namespace rpc_pipeline
