#include "planner/compute_graph.h"

#include <algorithm>
#include <utility>

namespace yoke::planner {

// As ggml_nbytes: from the first element to the end of the last.
std::uint64_t GraphTensor::bytes() const {
  std::uint64_t sum = element.block == 1 ? element.bytes : size[0] * stride[0] / element.block;
  for (std::size_t i = element.block == 1 ? 0 : 1; i < size.size(); ++i) {
    if (size[i] == 0) return 0;
    sum += (size[i] - 1) * stride[i];
  }
  return sum;
}

ComputeGraph::ComputeGraph() {
  constexpr std::size_t kUsual = 2048;
  tensors_.reserve(kUsual);
  nodes_.reserve(kUsual);
}

void ComputeGraph::pack(GraphTensor& tensor) {
  tensor.stride[0] = tensor.element.bytes;
  tensor.stride[1] = tensor.size[0] / tensor.element.block * tensor.element.bytes;
  tensor.stride[2] = tensor.stride[1] * tensor.size[1];
  tensor.stride[3] = tensor.stride[2] * tensor.size[2];
}

TensorId ComputeGraph::add(GraphTensor tensor) {
  tensors_.push_back(tensor);
  visited_.push_back(false);
  return static_cast<TensorId>(tensors_.size() - 1);
}

TensorId ComputeGraph::input(Shape size, Element element) {
  GraphTensor tensor{.input = true, .element = element, .size = size};
  pack(tensor);
  return add(tensor);
}

TensorId ComputeGraph::stored(Shape size, Element element, std::int8_t home, bool weight) {
  GraphTensor tensor{.weight = weight, .home = home, .element = element, .size = size};
  pack(tensor);
  return add(tensor);
}

TensorId ComputeGraph::compute(Op op, Shape size, std::initializer_list<TensorId> sources,
                               Element element) {
  GraphTensor tensor{.op = op, .element = element, .size = size};
  std::ranges::copy(sources, tensor.sources.begin());
  pack(tensor);
  return add(tensor);
}

TensorId ComputeGraph::map(Op op, std::initializer_list<TensorId> sources) {
  const GraphTensor& first = at(*sources.begin());
  return compute(op, first.size, sources, first.element.block == 1 ? first.element : kFloat);
}

TensorId ComputeGraph::matmul(TensorId weight, TensorId with) {
  const Shape& by = size(with);
  return compute(Op::kMulMat, {size(weight)[1], by[1], by[2], by[3]}, {weight, with});
}

TensorId ComputeGraph::view(TensorId of, Shape size, Shape stride) {
  const GraphTensor& base = at(of);
  GraphTensor tensor{.op = Op::kView, .element = base.element, .size = size, .stride = stride};
  tensor.view_of = base.view_of != kNoTensor ? base.view_of : of;
  tensor.sources[0] = of;
  return add(tensor);
}

TensorId ComputeGraph::reshape(TensorId of, Shape size) {
  const TensorId id = view(of, size, {});
  at(id).op = Op::kReshape;
  pack(at(id));
  return id;
}

TensorId ComputeGraph::permute(TensorId of, std::array<std::uint8_t, 4> axes) {
  const GraphTensor base = at(of);
  const TensorId id = view(of, base.size, base.stride);
  GraphTensor& result = at(id);
  result.op = Op::kPermute;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    result.size[axes[i]] = base.size[i];
    result.stride[axes[i]] = base.stride[i];
  }
  return id;
}

TensorId ComputeGraph::write(Op op, TensorId from, TensorId into, TensorId where) {
  const GraphTensor& target = at(into);
  const TensorId id = view(into, target.size, target.stride);
  GraphTensor& result = at(id);
  result.op = op;
  result.sources[0] = from;
  result.sources[1] = where != kNoTensor ? where : into;
  if (where != kNoTensor) result.sources[2] = into;
  return id;
}

// ggml_visit_parents_graph: depth first, operands from the left.
void ComputeGraph::expand(TensorId tensor) {
  const auto index = static_cast<std::size_t>(tensor);
  if (visited_[index]) return;
  visited_[index] = true;
  for (const TensorId source : at(tensor).sources) {
    if (source != kNoTensor) expand(source);
  }
  (at(tensor).op == Op::kNone ? leaves_ : nodes_).push_back(tensor);
}

TensorId ComputeGraph::duplicate(TensorId id) {
  GraphTensor tensor{.element = at(id).element, .size = at(id).size, .stride = at(id).stride};
  return add(tensor);
}

}  // namespace yoke::planner
