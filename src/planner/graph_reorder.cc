#include "planner/graph_reorder.h"

#include <algorithm>
#include <initializer_list>
#include <span>

namespace yoke::planner {
namespace {

constexpr std::size_t kAhead = 20;  // Nodes that are looked at for one to pull forward,
constexpr std::size_t kNear = 15;   // and for one that is computed together with it.

using Pattern = std::span<const Op>;

// What Vulkan computes as one and so leaves together.
constexpr Op kSoftmaxTopNormalized[] = {Op::kSoftMax, Op::kReshape, Op::kArgsort, Op::kView,
                                        Op::kGetRows, Op::kReshape, Op::kSumRows, Op::kClamp,
                                        Op::kDiv,     Op::kReshape};
constexpr Op kSigmoidTopNormalized[] = {Op::kUnary, Op::kReshape, Op::kAdd,     Op::kArgsort,
                                        Op::kView,  Op::kGetRows, Op::kReshape, Op::kSumRows,
                                        Op::kClamp, Op::kDiv,     Op::kReshape};
constexpr Op kSoftmaxTop[] = {Op::kSoftMax, Op::kReshape, Op::kArgsort, Op::kView, Op::kGetRows};
constexpr Op kTopSoftmax[] = {Op::kArgsort, Op::kView,    Op::kGetRows,
                              Op::kReshape, Op::kSoftMax, Op::kReshape};
constexpr Op kNormMulAddMul[] = {Op::kRmsNorm, Op::kMul, Op::kAdd, Op::kMul};
constexpr Op kNormMulAdd[] = {Op::kRmsNorm, Op::kMul, Op::kAdd};
constexpr Op kNormMulRopeStore[] = {Op::kRmsNorm, Op::kMul, Op::kRope, Op::kView, Op::kSetRows};
constexpr Op kNormStore[] = {Op::kRmsNorm, Op::kView, Op::kSetRows};
constexpr Op kRopeStore[] = {Op::kRope, Op::kView, Op::kSetRows};

constexpr Pattern kExpertPatterns[] = {kSoftmaxTopNormalized, kSigmoidTopNormalized, kSoftmaxTop,
                                       kTopSoftmax};
constexpr Pattern kOtherPatterns[] = {kNormMulAddMul, kNormMulAdd, kNormMulRopeStore, kNormStore,
                                      kRopeStore};

class Reorderer {
 public:
  Reorderer(const ComputeGraph& graph, const UseCounts& uses, const std::vector<TensorId>& nodes)
      : graph_(graph), uses_(uses), nodes_(nodes), used_(nodes.size(), false) {
    order_.reserve(nodes.size());
    done_.assign(graph.tensor_count(), false);
  }

  Keeps run();
  std::vector<TensorId> order() && { return std::move(order_); }

 private:
  static std::size_t index(TensorId id) { return static_cast<std::size_t>(id); }
  const GraphTensor& node(std::size_t i) const { return graph_.at(nodes_[i]); }
  Op op(std::size_t i) const { return node(i).op; }
  bool is_free(std::size_t i) const { return is_view(op(i)) || op(i) == Op::kNone; }
  TensorId base(TensorId id) const {
    const TensorId of = graph_.at(id).view_of;
    return of != kNoTensor ? of : id;
  }
  bool matches(Pattern pattern, std::size_t start) const;
  bool starts_pattern(std::size_t i) const;
  bool keep_pattern();
  void keep_operands(Pattern pattern);
  bool needs(std::size_t later, std::size_t earlier) const;
  bool goes_along(std::size_t later, std::size_t earlier) const;
  bool can_go_now(std::size_t i) const;
  void pull(std::size_t i);
  void pull_rope(std::size_t& i);
  void pull_store(std::size_t from);
  void pull_follower(std::size_t i, Op follower, bool first_operand);
  bool stores_only(std::size_t from, std::size_t view, std::size_t store) const;
  bool is_ready(TensorId id) const;
  void choose_operations();
  void choose_views();
  void emit();
  void advance() {
    while (first_ < nodes_.size() && used_[first_]) ++first_;
  }

  const ComputeGraph& graph_;
  const UseCounts& uses_;
  const std::vector<TensorId>& nodes_;
  std::vector<bool> used_;
  std::vector<bool> done_;        // By tensor: in the new order.
  std::vector<std::size_t> now_;  // What comes next.
  std::vector<TensorId> order_;
  Keeps keeps_;
  std::size_t first_ = 0;
};

bool Reorderer::matches(Pattern pattern, std::size_t start) const {
  if (start + pattern.size() > nodes_.size()) return false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (used_[start + i] || op(start + i) != pattern[i]) return false;
  }
  return true;
}

bool Reorderer::starts_pattern(std::size_t i) const {
  const auto found = [&](Pattern pattern) { return matches(pattern, i); };
  return std::ranges::any_of(kExpertPatterns, found) || std::ranges::any_of(kOtherPatterns, found);
}

// What is computed as one needs all its operands until the end.
void Reorderer::keep_operands(Pattern pattern) {
  std::size_t last = first_ + pattern.size() - 1;
  if (last + 1 < nodes_.size() && op(last + 1) == Op::kScale) ++last;
  std::vector<TensorId> seen;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    for (const TensorId source : node(first_ + i).sources) {
      if (source == kNoTensor || std::ranges::find(seen, source) != seen.end()) continue;
      seen.push_back(source);
      keeps_.emplace_back(source, nodes_[last]);
    }
    seen.push_back(nodes_[first_ + i]);
  }
}

bool Reorderer::keep_pattern() {
  const auto found = [&](Pattern pattern) { return matches(pattern, first_); };
  Pattern pattern;
  if (const auto* it = std::ranges::find_if(kExpertPatterns, found);
      it != std::end(kExpertPatterns)) {
    pattern = *it;
    keep_operands(pattern);
  } else if (const auto* other = std::ranges::find_if(kOtherPatterns, found);
             other != std::end(kOtherPatterns)) {
    pattern = *other;
  } else {
    return false;
  }
  for (std::size_t i = 0; i < pattern.size(); ++i) now_.push_back(first_ + i);
  emit();
  return true;
}

bool Reorderer::needs(std::size_t later, std::size_t earlier) const {
  const GraphTensor& a = node(later);
  const TensorId before = nodes_[earlier];
  const TensorId before_base = base(before);
  const TensorId later_base = base(nodes_[later]);
  if (later_base == before_base) return true;
  const bool both_compute = !is_free(later) && !is_free(earlier);
  for (const TensorId source : a.sources) {
    if (source == kNoTensor) continue;
    if (source == before || (both_compute && base(source) == before_base)) return true;
  }
  if (!both_compute) return false;
  return std::ranges::any_of(node(earlier).sources, [&](TensorId source) {
    return source != kNoTensor && base(source) == later_base;
  });
}

// Pairs that may follow each other although the second needs the first.
bool Reorderer::goes_along(std::size_t later, std::size_t earlier) const {
  if (now_.back() != earlier) return false;
  const Op a = op(earlier);
  const Op b = op(later);
  if (b == Op::kMul && (a == Op::kRmsNorm || a == Op::kUnary)) {
    for (std::size_t i = earlier + 1; i < later; ++i) {
      if (!used_[i] && !is_free(i)) return false;
    }
    return true;
  }
  if (later != earlier + 1) return false;
  return (a == Op::kMulMat && b == Op::kAdd) || (a == Op::kMulMatId && b == Op::kAddId) ||
         (a == Op::kMulMatId && b == Op::kMul) || (a == Op::kAdd && b == Op::kAdd) ||
         (a == Op::kConvolution && (b == Op::kAdd || b == Op::kUnary));
}

bool Reorderer::can_go_now(std::size_t i) const {
  for (std::size_t before = first_; before < i; ++before) {
    if (!used_[before] && needs(i, before) && !goes_along(i, before)) return false;
  }
  return true;
}

bool Reorderer::is_ready(TensorId id) const {
  return graph_.at(id).op == Op::kNone || done_[index(id)];
}

void Reorderer::pull(std::size_t i) {
  now_.push_back(i);
  used_[i] = true;
}

// A norm's rope.
void Reorderer::pull_rope(std::size_t& i) {
  if (op(i) != Op::kMul || op(i - 1) != Op::kRmsNorm) return;
  const std::size_t end = std::min(i + kNear, nodes_.size());
  for (std::size_t k = i + 1; k < end; ++k) {
    const GraphTensor& rope = node(k);
    if (rope.op != Op::kRope || rope.sources[0] != nodes_[i]) continue;
    if (graph_.at(rope.sources[1]).op != Op::kNone) continue;
    pull(k);
    i = k;
    return;
  }
}

bool Reorderer::stores_only(std::size_t from, std::size_t view, std::size_t store) const {
  const bool own = base(nodes_[from]) == nodes_[from] && !node(from).output;
  if (!own || uses_[index(nodes_[from])] != 1 || uses_[index(nodes_[view])] != 1) return false;
  for (std::size_t i = from + 1; i < store; ++i) {
    if (!used_[i] && i != view && !is_free(i) && needs(store, i)) return false;
  }
  return true;
}

// What is stored in the cache right away.
void Reorderer::pull_store(std::size_t from) {
  if (op(from) != Op::kRope && op(from) != Op::kRmsNorm) return;
  const std::size_t end = std::min(from + kNear, nodes_.size());
  std::size_t view = 0;
  for (std::size_t k = from + 1; k < end; ++k) {
    if (used_[k]) continue;
    if (view == 0 && op(k) == Op::kView && node(k).sources[0] == nodes_[from]) {
      view = k;
    } else if (view != 0 && op(k) == Op::kSetRows && node(k).sources[0] == nodes_[view]) {
      if (!stores_only(from, view, k)) return;
      pull(view);
      pull(k);
      return;
    }
  }
}

// The operation that can be done with this one's result in passing.
void Reorderer::pull_follower(std::size_t i, Op follower, bool first_operand) {
  const std::size_t end = std::min(i + kNear, nodes_.size());
  for (std::size_t k = i + 1; k < end; ++k) {
    if (op(k) != follower) continue;
    const GraphTensor& next = node(k);
    const bool first = next.sources[0] == nodes_[i];
    if (!first && (first_operand || next.sources[1] != nodes_[i])) continue;
    const TensorId other = next.sources[first ? 1 : 0];
    if (follower != Op::kUnary && (other == kNoTensor || !is_ready(other))) continue;
    pull(k);
    return;
  }
}

void Reorderer::choose_operations() {
  const std::size_t end = std::min(first_ + kAhead, nodes_.size());
  for (std::size_t i = first_ + 1; i < end; ++i) {
    if (used_[i] || is_free(i) || starts_pattern(i) || !can_go_now(i)) continue;
    now_.push_back(i);
    std::size_t last = i;
    pull_rope(last);
    pull_store(last);
    if (op(i) == Op::kAddId && op(i - 1) == Op::kMulMatId) pull_follower(i, Op::kMul, true);
    if (op(i) == Op::kAdd && op(i - 1) == Op::kMulMat) pull_follower(i, Op::kAdd, true);
    if (op(i) == Op::kAdd && op(i - 1) == Op::kConvolution) pull_follower(i, Op::kUnary, true);
    if (op(i) == Op::kUnary) pull_follower(i, Op::kMul, false);
  }
}

void Reorderer::choose_views() {
  if (op(now_.back()) == Op::kAdd) return;
  const std::size_t end = std::min(first_ + kAhead, nodes_.size());
  for (std::size_t i = first_ + 1; i < end; ++i) {
    if (used_[i] || !is_free(i)) continue;
    bool can = true;
    for (std::size_t before = first_; can && before < i; ++before) {
      can = used_[before] || !needs(i, before) || std::ranges::find(now_, before) != now_.end();
    }
    if (can) now_.push_back(i);
  }
}

void Reorderer::emit() {
  for (const std::size_t i : now_) {
    order_.push_back(nodes_[i]);
    done_[index(nodes_[i])] = true;
    used_[i] = true;
  }
  now_.clear();
  advance();
}

Keeps Reorderer::run() {
  while (first_ < nodes_.size()) {
    if (keep_pattern()) continue;
    now_.push_back(first_);
    choose_operations();
    choose_views();
    emit();
  }
  return std::move(keeps_);
}

}  // namespace

UseCounts use_counts(const ComputeGraph& graph) {
  UseCounts uses(graph.tensor_count());
  for (const TensorId node : graph.nodes()) {
    for (const TensorId source : graph.at(node).sources) {
      if (source != kNoTensor) ++uses[static_cast<std::size_t>(source)];
    }
  }
  return uses;
}

Keeps reorder(const ComputeGraph& graph, const UseCounts& uses, std::vector<TensorId>& nodes) {
  Reorderer reorderer(graph, uses, nodes);
  Keeps keeps = reorderer.run();
  nodes = std::move(reorderer).order();
  return keeps;
}

}  // namespace yoke::planner
