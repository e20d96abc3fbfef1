#include "planner/graph_builder.h"

namespace yoke::planner {

TensorId GraphBuilder::feed_forward(TensorId in) {
  if (!kind().has(Part::kRouter)) return dense(in, Part::kGate, Part::kUp, Part::kDown, true);
  const TensorId routed = experts(in);
  if (!kind().has(Part::kSharedUp)) return routed;
  TensorId shared = dense(in, Part::kSharedGate, Part::kSharedUp, Part::kSharedDown, false);
  if (kind().has(Part::kSharedRouter)) {
    const TensorId gate = graph_.map(Op::kUnary, {times(Part::kSharedRouter, in)});
    shared = graph_.map(Op::kMul, {shared, gate});
  }
  return graph_.map(Op::kAdd, {routed, shared});
}

// llm_graph_context::build_ffn
TensorId GraphBuilder::dense(TensorId in, Part gate, Part up, Part down, bool biased) {
  if (!kind().has(up) || !kind().has(down)) return in;
  TensorId now = times(up, in);
  if (biased) now = plus(Part::kUpBias, now);
  if (kind().has(gate)) {
    now = graph_.map(Op::kGlu, {times(gate, in), now});
  } else if (kind()[up].rows == 2 * kind()[down].columns) {
    now = graph_.compute(Op::kGlu, {kind()[down].columns, graph_.size(now)[1], 1, 1}, {now});
  } else {
    now = graph_.map(Op::kUnary, {now});
  }
  now = times(down, now);
  return biased ? plus(Part::kDownBias, now) : now;
}

// The best groups of experts, by the sum of their two best; the others' scores are masked out.
TensorId GraphBuilder::masked_groups(TensorId scores) {
  const Shape size = graph_.size(scores);
  const std::uint64_t groups = traits_.expert_groups;
  const Shape grouped{size[0] / groups, groups, size[1], 1};
  const TensorId by_group = graph_.reshape(scores, grouped);
  const TensorId order = graph_.map(Op::kArgsort, {by_group});
  const TensorId best_two = graph_.view(order, {2, groups, size[1], 1}, graph_.at(order).stride);
  const TensorId single = graph_.reshape(by_group, {1, grouped[0], groups, size[1]});
  const TensorId best = graph_.compute(Op::kGetRows, {1, 2, groups, size[1]}, {single, best_two});
  const TensorId sums = graph_.compute(Op::kSumRows, {1, groups, size[1], 1},
                                       {graph_.reshape(best, {2, groups, size[1], 1})});
  const TensorId group_order =
      graph_.map(Op::kArgsort, {graph_.reshape(sums, {groups, size[1], 1, 1})});
  const TensorId chosen = graph_.view(group_order, {traits_.expert_groups_used, size[1], 1, 1},
                                      graph_.at(group_order).stride);
  const TensorId kept = graph_.compute(
      Op::kGetRows, {grouped[0], traits_.expert_groups_used, size[1], 1}, {by_group, chosen});
  const TensorId masked =
      graph_.write(Op::kSetRows, kept, graph_.map(Op::kFill, {by_group}), chosen);
  return graph_.reshape(masked, size);
}

// Scores of all experts; `choice`: those that each token goes to.
TensorId GraphBuilder::router(TensorId in, TensorId& choice) {
  TensorId scores = plus(Part::kRouterBias, times(Part::kRouter, in));
  if (!traits_.biased_choice) {
    scores = graph_.map(traits_.sigmoid_experts ? Op::kUnary : Op::kSoftMax, {scores});
  }
  TensorId selection = plus(Part::kRouterProbabilityBias, scores);
  if (traits_.expert_groups > 1) selection = masked_groups(selection);
  const TensorId order = graph_.map(Op::kArgsort, {selection});
  choice = graph_.view(order, {kind().experts_used, tokens_of(in), 1, 1}, graph_.at(order).stride);
  return scores;
}

TensorId GraphBuilder::expert_weights(TensorId scores, TensorId choice) {
  const std::uint64_t used = kind().experts_used;
  const Shape size = graph_.size(scores);
  const Shape per_expert{1, used, size[1], 1};
  const TensorId single = graph_.reshape(scores, {1, size[0], size[1], 1});
  TensorId weights = graph_.compute(Op::kGetRows, per_expert, {single, choice});
  const Shape flat{used, size[1], 1, 1};
  if (traits_.biased_choice) {
    weights = graph_.map(Op::kSoftMax, {graph_.reshape(weights, flat)});
    weights = graph_.reshape(weights, per_expert);
  }
  if (traits_.normalized_experts) {
    weights = graph_.reshape(weights, flat);
    TensorId sum = graph_.compute(Op::kSumRows, {1, size[1], 1, 1}, {weights});
    sum = graph_.map(Op::kClamp, {sum});
    weights = graph_.reshape(graph_.map(Op::kDiv, {weights, sum}), per_expert);
  }
  return traits_.scaled_experts ? graph_.map(Op::kScale, {weights}) : weights;
}

TensorId GraphBuilder::expert_matmul(Part part, TensorId in, TensorId choice) {
  return graph_.compute(Op::kMulMatId,
                        {kind()[part].rows, kind().experts_used, graph_.size(in)[2], 1},
                        {weight(part), in, choice});
}

TensorId GraphBuilder::expert_sum(TensorId outputs) {
  const Shape size = graph_.size(outputs);
  const Shape stride = graph_.at(outputs).stride;
  std::vector<TensorId> each;
  for (std::uint64_t i = 0; i < size[1]; ++i) {
    each.push_back(graph_.view(outputs, {size[0], size[2], 1, 1},
                               {stride[0], stride[2], stride[2] * size[2], stride[2] * size[2]}));
    graph_.expand(each.back());
  }
  if (each.empty()) return outputs;
  TensorId sum = each.front();
  for (std::size_t i = 1; i < each.size(); ++i) {
    sum = graph_.map(Op::kAdd, {sum, each[i]});
    graph_.expand(sum);
  }
  return each.size() == 1 ? graph_.map(Op::kContiguous, {sum}) : sum;
}

// llm_graph_context::build_moe_ffn
TensorId GraphBuilder::experts(TensorId in) {
  const bool fused = kind().has(Part::kExpertGateUp);
  if (!(fused || kind().has(Part::kExpertUp)) || !kind().has(Part::kExpertDown)) return in;
  TensorId choice = kNoTensor;
  const TensorId scores = router(in, choice);
  const TensorId weights = expert_weights(scores, choice);
  graph_.expand(weights);
  const Shape size = graph_.size(in);
  const TensorId row = graph_.reshape(in, {size[0], 1, size[1], 1});
  const auto biased = [&](Part part, TensorId to) {
    return kind().has(part) ? graph_.map(Op::kAddId, {to, weight(part), choice}) : to;
  };
  TensorId now = kNoTensor;
  if (fused) {
    const TensorId both = expert_matmul(Part::kExpertGateUp, row, choice);
    Shape half = graph_.size(both);
    half[0] /= 2;
    const Shape stride = graph_.at(both).stride;
    now = graph_.compute(Op::kGlu, half,
                         {graph_.view(both, half, stride), graph_.view(both, half, stride)});
  } else {
    const TensorId up = biased(Part::kExpertUpBias, expert_matmul(Part::kExpertUp, row, choice));
    if (kind().has(Part::kExpertGate)) {
      const TensorId gate =
          biased(Part::kExpertGateBias, expert_matmul(Part::kExpertGate, row, choice));
      now = graph_.map(Op::kGlu, {gate, up});
    } else {
      now = graph_.map(Op::kUnary, {up});
    }
  }
  now = biased(Part::kExpertDownBias, expert_matmul(Part::kExpertDown, now, choice));
  now = graph_.map(Op::kMul, {now, weights});
  graph_.expand(now);
  return expert_sum(now);
}

}  // namespace yoke::planner
