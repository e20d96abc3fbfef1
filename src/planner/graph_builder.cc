#include "planner/graph_builder.h"

#include <algorithm>

namespace yoke::planner {

TensorId GraphBuilder::weight(Part part) {
  const PartShape& shape = kind()[part];
  const std::uint64_t rows = shape.rows * shape.depth;
  // Whole rows of unknown blocks: only the size matters.
  const Element element{std::max<std::uint64_t>(shape.columns, 1),
                        rows > 0 ? shape.bytes / rows : 0};
  const TensorId id =
      graph_.stored({shape.columns, shape.rows, shape.depth, 1}, element, layer_->device, true);
  return id;
}

TensorId GraphBuilder::scan_weight() {
  const TensorId id = weight(Part::kStateA);
  graph_.at(id).home = layer_->scan_device;
  return id;
}

TensorId GraphBuilder::small_weight(std::uint64_t elements) {
  return graph_.stored({elements, 1, 1, 1}, kFloat, layer_->device, true);
}

TensorId GraphBuilder::times(Part part, TensorId in) { return graph_.matmul(weight(part), in); }

TensorId GraphBuilder::plus(Part part, TensorId in) {
  return kind().has(part) ? graph_.map(Op::kAdd, {in, weight(part)}) : in;
}

TensorId GraphBuilder::bare_norm(TensorId in, bool on_layer) {
  const TensorId result = graph_.map(traits_.layer_norm ? Op::kNorm : Op::kRmsNorm, {in});
  if (on_layer && places_.pin_norms) graph_.at(result).pinned = layer_->device;
  return result;
}

TensorId GraphBuilder::norm(Part part, TensorId in, bool on_layer) {
  return graph_.map(Op::kMul, {bare_norm(in, on_layer), weight(part)});
}

TensorId GraphBuilder::chosen_rows(TensorId in) {
  if (wanted_ == kNoTensor) wanted_ = graph_.input({request_.outputs, 1, 1, 1});
  return graph_.compute(Op::kGetRows, {graph_.size(in)[0], request_.outputs, 1, 1}, {in, wanted_});
}

TensorId GraphBuilder::positions() {
  if (positions_ == kNoTensor) positions_ = graph_.input({tokens(), 1, 1, 1});
  return positions_;
}

// llm_graph_context::build_inp_embd: for tokens, and room for ready embeddings.
TensorId GraphBuilder::embedding() {
  const Shape size{shape_.embedding_length, tokens(), 1, 1};
  const TensorId ids = graph_.input({tokens(), 1, 1, 1});
  const TensorId ready = graph_.input(size);
  const Element rows{shape_.embedding_length,
                     shape_.vocabulary > 0 ? traits_.token_embedding_bytes / shape_.vocabulary : 0};
  const TensorId table =
      graph_.stored({shape_.embedding_length, shape_.vocabulary, 1, 1}, rows, places_.cpu, true);
  TensorId result = graph_.compute(Op::kGetRows, size, {table, ids});
  graph_.expand(result);
  graph_.expand(ready);
  if (traits_.scaled_input) result = graph_.map(Op::kScale, {result});
  if (!traits_.bert) return result;
  const auto on_cpu = [&](Shape of) { return graph_.stored(of, kFloat, places_.cpu, true); };
  const TensorId types = on_cpu({shape_.embedding_length, 2, 1, 1});
  const Shape row{shape_.embedding_length, 1, 1, 1};
  result = graph_.map(Op::kAdd, {result, graph_.view(types, row, graph_.at(types).stride)});
  if (traits_.position_embedding_bytes > 0) {
    const TensorId places = on_cpu({shape_.embedding_length, shape_.context_length, 1, 1});
    const TensorId placed = graph_.compute(Op::kGetRows, size, {places, positions()});
    result = graph_.map(Op::kAdd, {placed, result});
  }
  result = bare_norm(result);
  // The norm of the embedding belongs to the first layer.
  result = graph_.map(Op::kMul, {result, small_weight(shape_.embedding_length)});
  return graph_.map(Op::kAdd, {result, small_weight(shape_.embedding_length)});
}

TensorId GraphBuilder::sum(TensorId now, TensorId beside) {
  return traits_.residual_first ? graph_.map(Op::kAdd, {beside, now})
                                : graph_.map(Op::kAdd, {now, beside});
}

// What a layer knows of the tokens before.
TensorId GraphBuilder::memory(TensorId in) {
  if (is_side_by_side()) {
    const TensorId shared = weight(Part::kAttentionNorm);
    const auto normed = [&] { return graph_.map(Op::kMul, {bare_norm(in), shared}); };
    const TensorId attended = attention(normed());
    return graph_.map(Op::kAdd, {attended, recurrent(normed())});
  }
  const bool norm_first = kind().has(Part::kAttentionNorm);
  const TensorId now =
      norm_first ? plus(Part::kAttentionNormBias, norm(Part::kAttentionNorm, in)) : in;
  if (kind().attends) return attention(now);
  return kind().keeps_state ? recurrent(now) : now;
}

TensorId GraphBuilder::layer(TensorId in, bool last) {
  const bool post_is_feed_norm = !kind().has(Part::kFeedNorm) && !kind().has(Part::kFeedPostNorm);
  const bool chooses = last && !traits_.late_output;
  TensorId beside = in;
  TensorId now = memory(in);
  if (chooses && !is_side_by_side()) {
    now = chosen_rows(now);
    beside = chosen_rows(beside);
  }
  if (kind().has(Part::kAttentionPostNorm) && !post_is_feed_norm && !traits_.bert) {
    now = norm(Part::kAttentionPostNorm, now);
  }
  now = sum(now, beside);
  if (chooses && is_side_by_side()) now = chosen_rows(now);
  if (!kind().has(Part::kUp) && !kind().has(Part::kRouter)) return now;
  if (traits_.bert) now = norm_behind(Part::kAttentionPostNorm, now);
  beside = now;
  if (kind().has(Part::kFeedNorm)) {
    now = plus(Part::kFeedNormBias, norm(Part::kFeedNorm, now));
  } else if (post_is_feed_norm && kind().has(Part::kAttentionPostNorm)) {
    now = norm(Part::kAttentionPostNorm, now);
  }
  now = feed_forward(now);
  if (traits_.bert) return norm_behind(Part::kFeedPostNorm, sum(now, beside));
  if (kind().has(Part::kFeedPostNorm)) now = norm(Part::kFeedPostNorm, now, false);
  return sum(now, beside);
}

// With its bias.
TensorId GraphBuilder::norm_behind(Part part, TensorId in) {
  return kind().has(part) ? graph_.map(Op::kAdd, {norm(part, in), weight(part)}) : in;
}

TensorId GraphBuilder::softened_cap(TensorId in) {
  return graph_.map(Op::kScale, {graph_.map(Op::kUnary, {graph_.map(Op::kScale, {in})})});
}

TensorId GraphBuilder::finish(TensorId in) {
  if (traits_.late_output) in = chosen_rows(in);
  if (traits_.bert) {
    graph_.at(in).output = true;
    graph_.expand(in);
    return in;
  }
  const GraphLayer behind{nullptr, places_.output, places_.output};
  layer_ = &behind;
  TensorId now =
      graph_.map(Op::kMul, {bare_norm(in, false), small_weight(shape_.embedding_length)});
  graph_.at(now).output = true;
  const TensorId embedding = now;
  const Element rows{
      shape_.embedding_length,
      traits_.output_rows > 0 ? traits_.output_matrix_bytes / traits_.output_rows : 0};
  now = graph_.matmul(graph_.stored({shape_.embedding_length, traits_.output_rows, 1, 1}, rows,
                                    places_.output, true),
                      now);
  if (traits_.capped_logits) now = softened_cap(now);
  graph_.at(now).output = true;
  graph_.expand(now);
  layer_ = nullptr;
  return embedding;
}

// llm_graph_context::build_pooling, with the mean of each sequence.
void GraphBuilder::pool(TensorId result) {
  const Shape& size = graph_.size(result);
  const TensorId mean = graph_.input({tokens(), request_.sequences, 1, 1});
  const TensorId columns = graph_.permute(result, {1, 0, 2, 3});
  graph_.at(columns).op = Op::kTranspose;
  const TensorId pooled =
      graph_.matmul(graph_.compute(Op::kContiguous, {size[1], size[0], 1, 1}, {columns}), mean);
  graph_.at(pooled).output = true;
  graph_.expand(pooled);
}

ComputeGraph GraphBuilder::build(const std::vector<GraphLayer>& layers) {
  const GraphLayer none{nullptr, places_.cpu, places_.cpu};
  layer_ = layers.empty() ? &none : layers.data();
  TensorId now = embedding();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    layer_ = &layers[i];
    now = layer(now, i + 1 == layers.size());
  }
  const TensorId result = finish(now);
  if (request_.embeddings) pool(result);
  return std::move(graph_);
}

ComputeGraph model_graph(const ModelShape& shape, const std::vector<GraphLayer>& layers,
                         const GraphPlaces& places, const GraphRequest& request) {
  return GraphBuilder(shape, places, request).build(layers);
}

}  // namespace yoke::planner
