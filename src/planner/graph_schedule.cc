#include "planner/graph_schedule.h"

#include <algorithm>

#include "planner/graph_reorder.h"

namespace yoke::planner {
namespace {

// Devices are counted from 0 where one has to be known.
std::size_t index_of(std::int8_t device) { return static_cast<std::uint8_t>(device); }

constexpr std::uint64_t kLeastOffloaded = 32;            // Rows.
constexpr std::uint64_t kMostVulkanBytes = 0xffff'ffff;  // Of a tensor: maxStorageBufferRange.

// get_op_batch_size of the GPU backends
std::uint64_t batch_of(const GraphTensor& tensor) {
  switch (tensor.op) {
    case Op::kGetRows:
      return 0;
    case Op::kMulMat:
      return tensor.size[1];
    case Op::kMulMatId:
    case Op::kRope:
      return tensor.size[2];
    default:
      return tensor.size[1] * tensor.size[2] * tensor.size[3];
  }
}

class Scheduler {
 public:
  Scheduler(ComputeGraph& graph, const ScheduleOptions& options)
      : graph_(graph),
        options_(options),
        cpu_(static_cast<std::int8_t>(options.devices - 1)),
        device_(graph.tensor_count(), -1) {}

  Schedule run();

 private:
  struct Split {
    std::int8_t device = 0;
    std::vector<TensorId> inputs;
    std::vector<TensorId> nodes;
  };

  std::int8_t& device(TensorId id) { return device_[static_cast<std::size_t>(id)]; }
  bool is_vulkan(std::int8_t on) const {
    return static_cast<std::size_t>(on) < options_.vulkan.size() &&
           options_.vulkan[static_cast<std::size_t>(on)];
  }
  bool can_compute(std::int8_t on, const GraphTensor& tensor) const;
  void place_the_rest();
  std::int8_t nearest_to_operands(const GraphTensor& tensor);
  std::int8_t placed(const GraphTensor& tensor) const;
  std::int8_t by_weights(const GraphTensor& tensor) const;
  void assign();
  template <class Nodes>
  void spread(const Nodes& nodes, bool gpus_only);
  void spread_all();
  void settle();
  void split();
  bool wants_new_split(const GraphTensor& node, const Split& now);
  void take_operands(TensorId node, Split& now);
  TensorId copy_of(TensorId source, Split& now);
  void multiply_input(TensorId source);
  TensorId new_copy(TensorId source, std::int8_t on);

  ComputeGraph& graph_;
  const ScheduleOptions& options_;
  std::int8_t cpu_;
  std::vector<std::int8_t> device_;  // By tensor; -1: not yet known.
  std::vector<Split> splits_;
  std::vector<TensorId> copies_;  // By tensor and device; lazily.
  std::vector<bool> multiplied_;
  std::vector<Step> input_leaves_;
  std::vector<Step> copy_leaves_;
};

// ggml_backend_vk_device_supports_op, as far as it ever says no to these graphs.
bool Scheduler::can_compute(std::int8_t on, const GraphTensor& tensor) const {
  if (!is_vulkan(on)) return true;
  if (tensor.not_for_vulkan || tensor.bytes() > kMostVulkanBytes) return false;
  for (const TensorId source : tensor.sources) {
    if (source != kNoTensor && graph_.at(source).bytes() > kMostVulkanBytes) return false;
  }
  if (tensor.op != Op::kMulMat) return true;
  const GraphTensor& left = graph_.at(tensor.sources[0]);
  const bool packed = left.stride[1] == left.size[0] / left.element.block * left.element.bytes;
  return left.size[3] == graph_.at(tensor.sources[1]).size[3] &&
         (left.element.block == 1 || packed);
}

// Where it lies already, or what it is a view of.
std::int8_t Scheduler::placed(const GraphTensor& tensor) const {
  const GraphTensor& base = tensor.view_of != kNoTensor ? graph_.at(tensor.view_of) : tensor;
  if (base.home >= 0) return base.home;
  return tensor.op == Op::kNone && tensor.input ? cpu_ : std::int8_t{-1};
}

// ggml_backend_sched_backend_id_from_cur
std::int8_t Scheduler::by_weights(const GraphTensor& tensor) const {
  if (tensor.op == Op::kRope || tensor.op == Op::kFlashAttention) return -1;
  for (const TensorId source : tensor.sources) {
    if (source == kNoTensor || !graph_.at(source).weight) continue;
    const std::int8_t home = graph_.at(source).home;
    const bool offloads = home == cpu_ && options_.offload >= 0 &&
                          batch_of(tensor) >= kLeastOffloaded &&
                          can_compute(options_.offload, tensor);
    if (offloads) return options_.offload;
    return can_compute(home, tensor) ? home : std::int8_t{-1};
  }
  return -1;
}

void Scheduler::assign() {
  for (const TensorId leaf : graph_.leaves()) device(leaf) = placed(graph_.at(leaf));
  for (const TensorId node : graph_.nodes()) {
    const GraphTensor& tensor = graph_.at(node);
    std::int8_t found = tensor.pinned;
    if (found >= 0 && !can_compute(found, tensor)) found = -1;
    if (found < 0) found = placed(tensor);
    device(node) = found >= 0 ? found : by_weights(tensor);
  }
}

template <class Nodes>
void Scheduler::spread(const Nodes& nodes, bool gpus_only) {
  std::int8_t current = -1;
  for (const TensorId node : nodes) {
    if (is_view(graph_.at(node).op)) continue;
    std::int8_t& own = device(node);
    if (own >= 0) {
      current = gpus_only && own == cpu_ ? std::int8_t{-1} : own;
    } else if (current >= 0 && can_compute(current, graph_.at(node))) {
      own = current;
    }
  }
}

// Neighbours of what is settled follow it; those of GPUs first.
void Scheduler::spread_all() {
  const std::vector<TensorId>& forward = graph_.nodes();
  const std::vector<TensorId> backward(forward.rbegin(), forward.rend());
  for (const bool gpus_only : {true, false}) {
    spread(forward, gpus_only);
    spread(backward, gpus_only);
  }
}

// Of those that can compute it, the one that has most of the operands.
std::int8_t Scheduler::nearest_to_operands(const GraphTensor& tensor) {
  std::int8_t best = cpu_;
  std::int64_t most = -1;
  for (std::int8_t on = 0; on < options_.devices; ++on) {
    if (!can_compute(on, tensor)) continue;
    const std::int64_t count = std::ranges::count_if(tensor.sources, [&](TensorId source) {
      if (source == kNoTensor) return false;
      const TensorId base = graph_.at(source).view_of;
      const std::int8_t where =
          device(source) < 0 && base != kNoTensor ? device(base) : device(source);
      return where == on;
    });
    if (count <= most) continue;
    most = count;
    best = on;
  }
  return best;
}

void Scheduler::place_the_rest() {
  for (const TensorId node : graph_.nodes()) {
    const GraphTensor& tensor = graph_.at(node);
    if (!is_view(tensor.op) && device(node) < 0) device(node) = nearest_to_operands(tensor);
  }
}

void Scheduler::settle() {
  for (const TensorId node : graph_.nodes()) {
    const GraphTensor& tensor = graph_.at(node);
    if (device(node) < 0 && tensor.view_of != kNoTensor) device(node) = device(tensor.view_of);
    if (device(node) < 0) device(node) = 0;
    for (const TensorId source : tensor.sources) {
      if (source == kNoTensor || device(source) >= 0) continue;
      const TensorId base = graph_.at(source).view_of;
      device(source) = base != kNoTensor ? device(base) : device(node);
    }
  }
}

// The weights that a part copied can then make room for the next ones.
bool Scheduler::wants_new_split(const GraphTensor& node, const Split& now) {
  if (now.inputs.empty()) return false;
  return std::ranges::any_of(node.sources, [&](TensorId source) {
    return source != kNoTensor && graph_.at(source).weight && device(source) != now.device;
  });
}

TensorId Scheduler::new_copy(TensorId source, std::int8_t on) {
  const TensorId copy = graph_.duplicate(source);
  graph_.at(copy).input = graph_.at(copy).output = options_.copies > 1;
  device_.push_back(on);
  return copy;
}

void Scheduler::multiply_input(TensorId source) {
  const auto index = static_cast<std::size_t>(source);
  if (options_.copies <= 1 || !graph_.at(source).input || multiplied_[index]) return;
  multiplied_[index] = true;
  graph_.at(source).output = true;
  input_leaves_.push_back({source, kNoTensor, device(source)});
  for (std::uint64_t i = 1; i < options_.copies; ++i) {
    input_leaves_.push_back({new_copy(source, device(source)), kNoTensor, device(source)});
  }
}

TensorId Scheduler::copy_of(TensorId source, Split& now) {
  const auto devices = index_of(options_.devices);
  TensorId& known = copies_[static_cast<std::size_t>(source) * devices + index_of(now.device)];
  if (known != kNoTensor) return known;
  const TensorId copy = new_copy(source, now.device);
  known = copy;
  now.inputs.push_back(source);
  if (options_.copies <= 1) return copy;
  copy_leaves_.push_back({copy, kNoTensor, now.device});
  for (std::uint64_t i = 1; i < options_.copies; ++i) {
    copy_leaves_.push_back({new_copy(source, now.device), kNoTensor, now.device});
  }
  return copy;
}

void Scheduler::take_operands(TensorId node, Split& now) {
  for (std::size_t i = 0; i < graph_.at(node).sources.size(); ++i) {
    const TensorId source = graph_.at(node).sources[i];
    if (source == kNoTensor) continue;
    multiply_input(source);
    if (device(source) == now.device) continue;
    const TensorId copy = copy_of(source, now);
    graph_.at(node).sources[i] = copy;
  }
}

void Scheduler::split() {
  const std::vector<TensorId> nodes = graph_.nodes();
  copies_.assign(graph_.tensor_count() * index_of(options_.devices), kNoTensor);
  multiplied_.assign(graph_.tensor_count(), false);
  for (const TensorId node : nodes) {
    if (is_view(graph_.at(node).op)) {
      if (splits_.empty()) splits_.push_back({device(node), {}, {}});
      splits_.back().nodes.push_back(node);
      continue;
    }
    const std::int8_t own = device(node);
    const bool only_views =
        splits_.size() == 1 && std::ranges::all_of(splits_.front().nodes, [&](TensorId before) {
          return is_view(graph_.at(before).op);
        });
    if (only_views) splits_.front().device = own;
    if (splits_.empty() || splits_.back().device != own ||
        wants_new_split(graph_.at(node), splits_.back())) {
      splits_.push_back({own, {}, {}});
    }
    take_operands(node, splits_.back());
    splits_.back().nodes.push_back(node);
  }
}

Schedule Scheduler::run() {
  assign();
  spread_all();
  place_the_rest();
  settle();
  split();
  Schedule result;
  result.parts = splits_.size();
  const auto devices = index_of(options_.devices);
  const UseCounts uses = use_counts(graph_);
  for (Split& part : splits_) {
    const auto on = index_of(part.device);
    Keeps keeps;
    if (is_vulkan(part.device)) {
      keeps = reorder(graph_, uses, part.nodes);
    }
    for (const TensorId input : part.inputs) {
      const TensorId copy = copies_[static_cast<std::size_t>(input) * devices + on];
      result.steps.push_back({kNoTensor, input, device(input)});
      result.steps.push_back({copy, kNoTensor, part.device});
    }
    for (const TensorId node : part.nodes) {
      result.steps.push_back({node, kNoTensor, device(node)});
      for (const auto& [kept, until] : keeps) {
        if (until == node) result.steps.push_back({kNoTensor, kept, part.device});
      }
    }
  }
  result.leaves = std::move(input_leaves_);
  std::ranges::copy(copy_leaves_, std::back_inserter(result.leaves));
  for (const TensorId leaf : graph_.leaves()) {
    result.leaves.push_back({leaf, kNoTensor, std::max<std::int8_t>(device(leaf), 0)});
  }
  return result;
}

}  // namespace

Schedule schedule(ComputeGraph& graph, const ScheduleOptions& options) {
  return Scheduler(graph, options).run();
}

}  // namespace yoke::planner
