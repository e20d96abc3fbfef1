// ComputeGraph: what an engine computes for one batch, as far as it takes memory: tensors with
// their sizes, and which is made of which. Private to the planner; one thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <vector>

namespace yoke::planner {

// The operations of ggml that language models use; views first.
enum class Op : std::uint8_t {
  kNone,  // An input, a weight or a cache.
  kView,
  kReshape,
  kPermute,
  kTranspose,
  kAdd,  // From here on the result can take the place of an operand.
  kAddId,
  kMul,
  kDiv,
  kScale,
  kUnary,
  kSquare,
  kRope,
  kRmsNorm,
  kClamp,
  kFill,
  kSoftMax,
  kNorm,  // From here on it can not.
  kMulMat,
  kMulMatId,
  kGlu,
  kGetRows,
  kSetRows,
  kCopy,
  kContiguous,
  kConcat,
  kRepeat,
  kArgsort,
  kSumRows,
  kFlashAttention,
  kConvolution,
  kScan,
};

constexpr bool is_view(Op op) { return op > Op::kNone && op <= Op::kTranspose; }
constexpr bool can_be_in_place(Op op) { return op >= Op::kAdd && op <= Op::kSoftMax; }

using TensorId = std::int32_t;
inline constexpr TensorId kNoTensor = -1;

// How elements are stored: so many of them in so many bytes.
struct Element {
  std::uint64_t block = 1;
  std::uint64_t bytes = 4;
  bool operator==(const Element&) const = default;
};
inline constexpr Element kFloat{1, 4};
inline constexpr Element kHalf{1, 2};
inline constexpr Element kIndex{1, 8};

using Shape = std::array<std::uint64_t, 4>;

struct GraphTensor {
  Op op = Op::kNone;
  bool input = false;   // Filled in by the host.
  bool output = false;  // Read by the host.
  bool weight = false;
  bool not_for_vulkan = false;  // Vulkan has no such operation.
  std::int8_t home = -1;        // The device where it lies for good; -1: in a compute buffer.
  std::int8_t pinned = -1;      // The device that has to compute it; -1: any.
  Element element = kFloat;
  Shape size{1, 1, 1, 1};
  Shape stride{0, 0, 0, 0};  // In bytes.
  TensorId view_of = kNoTensor;
  std::array<TensorId, 7> sources{kNoTensor, kNoTensor, kNoTensor, kNoTensor,
                                  kNoTensor, kNoTensor, kNoTensor};
  std::uint64_t bytes() const;
};

class ComputeGraph {
 public:
  ComputeGraph();

  TensorId input(Shape size, Element element = kFloat);
  // `bytes` in all; rows of `element`.
  TensorId stored(Shape size, Element element, std::int8_t home, bool weight);
  // `result` has the shape of `size`, without gaps.
  TensorId compute(Op op, Shape size, std::initializer_list<TensorId> sources,
                   Element element = kFloat);
  // With the first source's shape.
  TensorId map(Op op, std::initializer_list<TensorId> sources);
  TensorId matmul(TensorId weight, TensorId with);
  TensorId view(TensorId of, Shape size, Shape stride);
  TensorId reshape(TensorId of, Shape size);
  TensorId permute(TensorId of, std::array<std::uint8_t, 4> axes);
  // Writes `from` into `into`, which is stored.
  TensorId write(Op op, TensorId from, TensorId into, TensorId where = kNoTensor);

  // Puts it, and first what it is made of, into the order of computing.
  void expand(TensorId tensor);

  GraphTensor& at(TensorId id) { return tensors_[static_cast<std::size_t>(id)]; }
  const GraphTensor& at(TensorId id) const { return tensors_[static_cast<std::size_t>(id)]; }
  const Shape& size(TensorId id) const { return at(id).size; }
  std::size_t tensor_count() const { return tensors_.size(); }
  const std::vector<TensorId>& nodes() const { return nodes_; }
  const std::vector<TensorId>& leaves() const { return leaves_; }
  void set_nodes(std::vector<TensorId> nodes) { nodes_ = std::move(nodes); }

  // A tensor like it, not in the order of computing.
  TensorId duplicate(TensorId id);

 private:
  TensorId add(GraphTensor tensor);
  static void pack(GraphTensor& tensor);

  std::vector<GraphTensor> tensors_;
  std::vector<bool> visited_;
  std::vector<TensorId> nodes_;
  std::vector<TensorId> leaves_;
};

}  // namespace yoke::planner
