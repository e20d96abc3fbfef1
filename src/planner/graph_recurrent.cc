#include "planner/graph_builder.h"

namespace yoke::planner {

TensorId GraphBuilder::recurrent(TensorId in) {
  if (kind().has(Part::kShortIn) && kind().has(Part::kShortOut)) return short_convolution(in);
  if (!kind().has(Part::kStateIn) || !kind().has(Part::kStateOut)) return in;
  if (traits_.state_inner == 0) return in;
  return kind().has(Part::kStateX) ? mamba(in) : mamba2(in);
}

TensorId GraphBuilder::state_ids() {
  if (state_ids_ == kNoTensor) {
    const Shape size{request_.sequences, 1, 1, 1};
    const TensorId ids = graph_.input(size, {1, 4});
    const Shape stride = graph_.at(ids).stride;
    state_ids_ = graph_.view(ids, size, stride);
    no_ids_ = graph_.view(ids, {0, 1, 1, 1}, stride);
  }
  return state_ids_;
}

// llm_graph_context::build_rs: one state is cleared, those of this batch are taken by `take`, and
// others would be moved if there were any.
template <class Take>
TensorId GraphBuilder::take_states(TensorId states, const Take& take) {
  const Shape size = graph_.size(states);
  const TensorId rows = graph_.reshape(states, size);
  const TensorId first = graph_.view(rows, {size[0], 1, 1, 1}, graph_.at(rows).stride);
  const TensorId cleared = graph_.view(first, {size[0], 1, 1, 1}, graph_.at(rows).stride);
  graph_.at(cleared).op = Op::kScale;
  graph_.expand(cleared);
  const TensorId taken = take(rows, state_ids());
  graph_.expand(taken);
  const TensorId others = graph_.compute(Op::kGetRows, {size[0], 0, 1, 1}, {rows, no_ids_});
  const TensorId there = graph_.view(states, {size[0], 0, 1, 1}, graph_.at(states).stride);
  graph_.expand(graph_.write(Op::kCopy, others, there));
  return taken;
}

void GraphBuilder::store_state(TensorId what, TensorId states) {
  const Shape stride = graph_.at(states).stride;
  const TensorId there = graph_.view(states, graph_.size(states), stride);
  graph_.expand(graph_.write(Op::kCopy, what, there));
}

// The columns before, then those of this batch, which are stored for the next; all convolved.
TensorId GraphBuilder::convolved(TensorId in, std::uint64_t channels, TensorId kernel,
                                 TensorId state) {
  const std::uint64_t sequences = request_.sequences;
  const std::uint64_t before = traits_.convolution > 0 ? traits_.convolution - 1 : 0;
  const TensorId taken = take_states(state, [&](TensorId rows, TensorId ids) {
    return graph_.compute(Op::kGetRows, {before * channels, sequences, 1, 1}, {rows, ids});
  });
  const TensorId old = graph_.reshape(taken, {before, channels, sequences, 1});
  const TensorId all =
      graph_.compute(Op::kConcat, {before + sequence_tokens(), channels, sequences, 1}, {old, in});
  const TensorId last = graph_.view(all, {before, channels, sequences, 1}, graph_.at(all).stride);
  store_state(last, state);
  return graph_.compute(Op::kConvolution, {channels, sequence_tokens(), sequences, 1},
                        {all, kernel});
}

// llm_build_mamba_base::build_mamba_layer
TensorId GraphBuilder::mamba(TensorId in) {
  const std::uint64_t inner = traits_.state_inner;
  const std::uint64_t size = traits_.state_size;
  const std::uint64_t sequences = request_.sequences;
  const std::uint64_t each = sequence_tokens();
  const Shape wide{inner, each, sequences, 1};
  const auto stored = [&](std::uint64_t width) {
    return graph_.stored({width, sequences, 1, 1}, kFloat, layer_->device, false);
  };
  const TensorId both =
      times(Part::kStateIn, graph_.reshape(in, {graph_.size(in)[0], each, sequences, 1}));
  const TensorId gate = graph_.view(both, wide, graph_.at(both).stride);
  const TensorId columns =
      graph_.permute(graph_.view(both, wide, graph_.at(both).stride), {1, 0, 2, 3});
  graph_.at(columns).op = Op::kTranspose;
  const std::uint64_t before = traits_.convolution > 0 ? traits_.convolution - 1 : 0;
  TensorId x = convolved(columns, inner, weight(Part::kStateConvolution), stored(before * inner));
  x = graph_.map(Op::kUnary, {plus(Part::kStateConvolutionBias, x)});
  const TensorId packed = times(Part::kStateX, x);
  const Shape packed_stride = graph_.at(packed).stride;
  const std::uint64_t rank = kind()[Part::kStateStep].columns;
  TensorId step = graph_.view(packed, {rank, each, sequences, 1}, packed_stride);
  const Shape vector{size, 1, each, sequences};
  const Shape vector_stride{4, size * 4, packed_stride[1], packed_stride[2]};
  TensorId b = graph_.view(packed, vector, vector_stride);
  TensorId c = graph_.view(packed, vector, vector_stride);
  if (kind().has(Part::kStateStepNorm)) {
    step = norm(Part::kStateStepNorm, step);
    b = norm(Part::kStateStepNorm, b);
    c = norm(Part::kStateStepNorm, c);
  } else {
    step = graph_.compute(Op::kContiguous, graph_.size(step), {step});
  }
  step = plus(Part::kStateStepBias, times(Part::kStateStep, step));
  const TensorId states = stored(inner * size);
  const TensorId steps = graph_.reshape(x, {1, inner, each, sequences});
  const TensorId scanned = take_states(states, [&](TensorId rows, TensorId ids) {
    const TensorId by_channel = graph_.reshape(rows, {size, 1, inner, sequences});
    const TensorId scan = graph_.compute(Op::kScan, {(each + size) * inner * sequences, 1, 1, 1},
                                         {by_channel, steps, step, scan_weight(), b, c, ids});
    graph_.at(scan).not_for_vulkan = !vulkan_can_scan(kind(), traits_);
    return scan;
  });
  const TensorId last =
      graph_.view(scanned, {inner * size, sequences, 1, 1}, graph_.at(states).stride);
  store_state(last, states);
  TensorId y = graph_.view(scanned, wide, graph_.at(x).stride);
  y = graph_.map(Op::kAdd, {y, graph_.map(Op::kMul, {x, weight(Part::kStateD)})});
  y = graph_.map(Op::kGlu, {graph_.map(Op::kContiguous, {gate}), y});
  const TensorId result = times(Part::kStateOut, y);
  return graph_.reshape(result, {graph_.size(result)[0], tokens(), 1, 1});
}

// llm_build_mamba_base::build_mamba2_layer
TensorId GraphBuilder::mamba2(TensorId in) {
  const std::uint64_t inner = traits_.state_inner;
  const std::uint64_t size = traits_.state_size;
  const std::uint64_t sequences = request_.sequences;
  const std::uint64_t each = sequence_tokens();
  const std::uint64_t heads = traits_.state_heads;
  if (heads == 0) return in;
  const std::uint64_t groups = traits_.state_groups;
  const std::uint64_t channels = inner + 2 * groups * size;
  const Shape by_head{inner / heads, heads, each, sequences};
  const auto stored = [&](std::uint64_t width) {
    return graph_.stored({width, sequences, 1, 1}, kFloat, layer_->device, false);
  };
  const TensorId flat = times(Part::kStateIn, in);
  const TensorId all = graph_.reshape(flat, {graph_.size(flat)[0], each, sequences, 1});
  const Shape stride = graph_.at(all).stride;
  const TensorId gate = graph_.view(all, by_head, {4, by_head[0] * 4, stride[1], stride[2]});
  const TensorId columns =
      graph_.permute(graph_.view(all, {channels, each, sequences, 1}, stride), {1, 0, 2, 3});
  graph_.at(columns).op = Op::kTranspose;
  TensorId step = graph_.view(all, {heads, each, sequences, 1}, stride);
  const std::uint64_t before = traits_.convolution > 0 ? traits_.convolution - 1 : 0;
  TensorId mixed =
      convolved(columns, channels, weight(Part::kStateConvolution), stored(before * channels));
  mixed = graph_.map(Op::kUnary, {plus(Part::kStateConvolutionBias, mixed)});
  const Shape row = graph_.at(mixed).stride;
  const TensorId x = graph_.view(mixed, by_head, {4, by_head[0] * 4, row[1], row[2]});
  const Shape vectors{size, groups, each, sequences};
  const Shape vectors_stride{4, size * 4, row[1], row[2]};
  const TensorId b = graph_.view(mixed, vectors, vectors_stride);
  const TensorId c = graph_.view(mixed, vectors, vectors_stride);
  step = plus(Part::kStateStepBias,
              graph_.compute(Op::kContiguous, {heads, each, sequences, 1}, {step}));
  const TensorId states = stored(inner * size);
  const TensorId scanned = take_states(states, [&](TensorId rows, TensorId ids) {
    const TensorId by = graph_.reshape(rows, {size, by_head[0], heads, sequences});
    const TensorId scan = graph_.compute(Op::kScan, {(each + size) * inner * sequences, 1, 1, 1},
                                         {by, x, step, scan_weight(), b, c, ids});
    graph_.at(scan).not_for_vulkan = !vulkan_can_scan(kind(), traits_);
    return scan;
  });
  const TensorId last =
      graph_.view(scanned, {inner * size, sequences, 1, 1}, graph_.at(states).stride);
  store_state(last, states);
  TensorId y = graph_.view(scanned, by_head, {4, by_head[0] * 4, inner * 4, inner * 4 * each});
  y = graph_.map(Op::kAdd, {y, graph_.map(Op::kMul, {x, weight(Part::kStateD)})});
  y = graph_.map(Op::kGlu, {graph_.map(Op::kContiguous, {gate}), y});
  if (kind().has(Part::kStateNorm) && groups > 0) {
    y = norm(Part::kStateNorm, graph_.reshape(y, {inner / groups, groups, each, sequences}));
  }
  return times(Part::kStateOut, graph_.reshape(y, {inner, tokens(), 1, 1}));
}

// The short convolution of LFM2.
TensorId GraphBuilder::short_convolution(TensorId in) {
  const std::uint64_t sequences = request_.sequences;
  const std::uint64_t each = sequence_tokens();
  const std::uint64_t width = shape_.embedding_length;
  const TensorId all =
      times(Part::kShortIn, graph_.reshape(in, {graph_.size(in)[0], each, sequences, 1}));
  const Shape part{width, each, sequences, 1};
  const Shape stride = graph_.at(all).stride;
  const TensorId b = graph_.view(all, part, stride);
  const TensorId c = graph_.view(all, part, stride);
  const TensorId x = graph_.view(all, part, stride);
  const TensorId columns = graph_.permute(graph_.map(Op::kMul, {b, x}), {1, 0, 2, 3});
  graph_.at(columns).op = Op::kTranspose;
  const std::uint64_t before = traits_.convolution > 0 ? traits_.convolution - 1 : 0;
  const TensorId state =
      graph_.stored({before * width, sequences, 1, 1}, kFloat, layer_->device, false);
  const TensorId mixed = convolved(columns, width, weight(Part::kShortConvolution), state);
  const TensorId result = times(Part::kShortOut, graph_.map(Op::kMul, {c, mixed}));
  return graph_.reshape(result, {graph_.size(result)[0], tokens(), 1, 1});
}

}  // namespace yoke::planner
