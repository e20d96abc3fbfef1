#include <algorithm>

#include "planner/graph_builder.h"

namespace yoke::planner {

GraphBuilder::CacheInputs& GraphBuilder::cache_inputs() {
  CacheInputs& inputs = kind().slides ? sliding_ : full_;
  if (inputs.mask != kNoTensor) return inputs;
  const Element mask_type = request_.flash_attention ? kHalf : kFloat;
  if (!traits_.cached) {
    inputs.mask = graph_.input({tokens(), tokens(), 1, 1}, mask_type);
    return inputs;
  }
  inputs.key_rows = graph_.input({tokens(), 1, 1, 1}, kIndex);
  const std::uint64_t values = request_.flash_attention ? 1 : request_.widest_values;
  if (!traits_.latent) inputs.value_rows = graph_.input({tokens() * values, 1, 1, 1}, kIndex);
  const std::uint64_t cells = kind().slides ? request_.sliding_cells : request_.cells;
  inputs.mask = graph_.input({cells, tokens() / request_.streams, 1, request_.streams}, mask_type);
  if (traits_.latent) return inputs;
  std::uint64_t side = 64;  // llama_kv_cache::build_input_k_rot
  while (kind().key_length % (side * 2) == 0 && kind().key_length > 0) side *= 2;
  if (request_.rotated_keys) inputs.key_rotation = graph_.input({side, side, 1, 1});
  if (request_.rotated_values) inputs.value_rotation = graph_.input({64, 64, 1, 1});
  return inputs;
}

TensorId GraphBuilder::rope(TensorId in) {
  if (traits_.bert && traits_.position_embedding_bytes > 0) return in;
  return graph_.map(Op::kRope, {in, positions()});
}

// llama_mul_mat_hadamard
TensorId GraphBuilder::rotated(TensorId in, TensorId rotation) {
  if (rotation == kNoTensor) return in;
  const Shape size = graph_.size(in);
  const std::uint64_t side = graph_.size(rotation)[0];
  const Shape flat{side, size[0] * size[1] * size[2] * size[3] / side, 1, 1};
  const GraphTensor& tensor = graph_.at(in);
  const bool packed = tensor.stride[1] == size[0] * tensor.element.bytes &&
                      tensor.stride[2] == tensor.stride[1] * size[1];
  const TensorId rows =
      packed ? graph_.reshape(in, flat) : graph_.compute(Op::kContiguous, flat, {in});
  return graph_.reshape(graph_.matmul(rotation, rows), size);
}

// llm_graph_context::build_qkv
GraphBuilder::Heads GraphBuilder::heads(TensorId in) {
  if (!kind().has(Part::kQkv)) return separate_heads(in);
  const TensorId all = plus(Part::kQkvBias, times(Part::kQkv, in));
  const std::uint64_t row = graph_.at(all).stride[1];
  const auto part = [&](std::uint64_t length, std::uint64_t count) {
    return graph_.view(all, {length, count, tokens(), 1},
                       {kFloat.bytes, length * kFloat.bytes, row, row * tokens()});
  };
  Heads found;
  found.query = part(kind().key_length, kind().heads);
  found.key = part(kind().key_length, kind().kv_heads);
  found.value = part(kind().value_length, kind().kv_heads);
  return found;
}

GraphBuilder::Heads GraphBuilder::separate_heads(TensorId in) {
  Heads found;
  const std::uint64_t key = kind().key_length;
  found.query = plus(Part::kQBias, times(Part::kQ, in));
  found.key = plus(Part::kKBias, times(Part::kK, in));
  found.value = plus(Part::kVBias, times(kind().has(Part::kV) ? Part::kV : Part::kK, in));
  found.query = graph_.reshape(found.query, {key, kind().heads, tokens(), 1});
  found.key = graph_.reshape(found.key, {key, kind().kv_heads, tokens(), 1});
  found.value = graph_.reshape(found.value, {kind().value_length, kind().kv_heads, tokens(), 1});
  return found;
}

TensorId GraphBuilder::attention(TensorId in) {
  if (kind().has(Part::kKvDown)) {
    return traits_.latent ? latent_attention(in) : unpacked_latent_attention(in);
  }
  const bool usable = kind().has(Part::kQkv) || (kind().has(Part::kQ) && kind().has(Part::kK));
  if (!usable || !kind().has(Part::kAttentionOut)) return in;
  Heads found = heads(in);
  if (kind().has(Part::kQNorm)) found.query = norm(Part::kQNorm, found.query);
  found.query = rope(found.query);
  if (kind().has(Part::kKNorm)) found.key = norm(Part::kKNorm, found.key);
  found.key = rope(found.key);
  if (traits_.scaled_input) found.query = graph_.map(Op::kScale, {found.query});
  const TensorId result = times(Part::kAttentionOut, attend(found, kNoTensor));
  return plus(Part::kAttentionOutBias, result);
}

TensorId GraphBuilder::latent_query(TensorId in) {
  TensorId query = in;
  if (kind().has(Part::kQUp)) {
    query = times(Part::kQUp, norm(Part::kQDownNorm, times(Part::kQDown, in)));
  } else {
    query = times(Part::kQ, in);
  }
  const std::uint64_t length = graph_.size(query)[0] / kind().heads;
  return graph_.reshape(query, {length, kind().heads, tokens(), 1});
}

// What a layer caches of its tokens, before it is put together.
GraphBuilder::LatentKey GraphBuilder::latent_key(TensorId in) {
  const std::uint64_t turned = traits_.rotated;
  const std::uint64_t rank = traits_.latent_rank;
  const TensorId packed = times(Part::kKvDown, in);
  const std::uint64_t row = graph_.at(packed).stride[1];
  const TensorId latent = graph_.view(packed, {rank, tokens(), 1, 1},
                                      {kFloat.bytes, row, row * tokens(), row * tokens()});
  const TensorId key_turn =
      graph_.view(packed, {turned, 1, tokens(), 1}, {kFloat.bytes, row, row, row * tokens()});
  const TensorId turned_key = rope(key_turn);
  return {norm(Part::kKvDownNorm, latent), turned_key};
}

// The graph of DeepSeek V2 and its heirs: queries go to the latent space, where one key serves all
// heads.
TensorId GraphBuilder::latent_attention(TensorId in) {
  const TensorId query = latent_query(in);
  const Shape size = graph_.size(query);
  const Shape stride = graph_.at(query).stride;
  const std::uint64_t turned = traits_.rotated;
  const std::uint64_t rank = traits_.latent_rank;
  const auto [latent, key_turn] = latent_key(in);
  const TensorId plain = graph_.view(query, {size[0] - turned, size[1], size[2], 1}, stride);
  const TensorId query_turn = rope(graph_.view(query, {turned, size[1], size[2], 1}, stride));
  const TensorId absorbed = graph_.permute(
      graph_.matmul(weight(Part::kKUp), graph_.permute(plain, {0, 2, 1, 3})), {0, 2, 1, 3});
  Heads found;
  found.query =
      graph_.compute(Op::kConcat, {rank + turned, size[1], size[2], 1}, {absorbed, query_turn});
  found.value = graph_.reshape(latent, {rank, 1, tokens(), 1});
  found.key = graph_.compute(Op::kConcat, {rank + turned, 1, tokens(), 1}, {found.value, key_turn});
  return times(Part::kAttentionOut, attend(found, weight(Part::kVUp)));
}

// The same of older files, with keys and values for each head in the cache.
TensorId GraphBuilder::unpacked_latent_attention(TensorId in) {
  const TensorId query = latent_query(in);
  const Shape size = graph_.size(query);
  const std::uint64_t turned = traits_.rotated;
  const auto [latent, key_turn] = latent_key(in);
  const TensorId both = times(Part::kKvUp, latent);
  const std::uint64_t both_row = graph_.at(both).stride[1];
  const std::uint64_t head_row = both_row / kind().heads;
  const auto part = [&](std::uint64_t length) {
    return graph_.view(both, {length, kind().heads, tokens(), 1},
                       {kFloat.bytes, head_row, both_row, both_row * tokens()});
  };
  Heads found;
  const TensorId plain = part(size[0] - turned);
  found.value = graph_.compute(Op::kContiguous, {kind().value_length, kind().heads, tokens(), 1},
                               {part(kind().value_length)});
  found.query = rope(query);
  const TensorId repeated =
      graph_.compute(Op::kRepeat, {turned, kind().heads, tokens(), 1}, {key_turn});
  found.key = graph_.compute(Op::kConcat, size, {plain, repeated});
  return times(Part::kAttentionOut, attend(found, kNoTensor));
}

TensorId GraphBuilder::attend(Heads heads, TensorId value_unpack) {
  if (traits_.cached) return attend_with_cache(heads, value_unpack);
  graph_.expand(heads.query);
  graph_.expand(heads.key);
  graph_.expand(heads.value);
  const TensorId mask = cache_inputs().mask;
  const Shape size = graph_.size(heads.query);
  const Shape stride = graph_.at(heads.query).stride;
  const TensorId q = graph_.permute(graph_.view(heads.query, size, stride), {0, 2, 1, 3});
  TensorId k = graph_.permute(heads.key, {0, 2, 1, 3});
  TensorId v = graph_.permute(heads.value, {0, 2, 1, 3});
  TensorId result = kNoTensor;
  if (request_.flash_attention) {
    k = graph_.compute(Op::kCopy, graph_.size(k), {k}, kHalf);
    v = graph_.compute(Op::kCopy, graph_.size(v), {v}, kHalf);
    result = attend_flash(q, k, v, value_unpack, mask);
  } else {
    result = attend_plain(q, k, v, value_unpack, mask, false);
  }
  graph_.expand(result);
  return result;
}

// The streams of a cache behind each other: rows are counted over all of them.
TensorId GraphBuilder::one_stream(TensorId cache) {
  const Shape size = graph_.size(cache);
  return size[2] > 1 ? graph_.reshape(cache, {size[0], size[1] * size[2], 1, 1}) : cache;
}

// llama_kv_cache::cpy_v
void GraphBuilder::store_value(TensorId value, TensorId cache) {
  const Shape size = graph_.size(value);
  const std::uint64_t width = size[0] * size[1];
  const CacheInputs& inputs = cache_inputs();
  const std::uint64_t row = graph_.at(value).stride[2];
  if (request_.flash_attention) {
    const TensorId rows = graph_.view(value, {width, tokens(), 1, 1},
                                      {kFloat.bytes, row, row * tokens(), row * tokens()});
    graph_.expand(graph_.write(Op::kSetRows, rows, one_stream(cache), inputs.value_rows));
    return;
  }
  TensorId rows = row == width * kFloat.bytes
                      ? graph_.reshape(value, {width, tokens(), 1, 1})
                      : graph_.compute(Op::kContiguous, {width, tokens(), 1, 1}, {value});
  if (width < request_.widest_values) {
    rows = graph_.compute(Op::kRepeat, {request_.widest_values, tokens(), 1, 1}, {rows});
  }
  const auto as_column = [&](TensorId of) {
    const Shape all = graph_.size(of);
    return graph_.reshape(of, {1, all[0] * all[1] * all[2], 1, 1});
  };
  const TensorId column = as_column(cache);
  graph_.expand(graph_.write(Op::kSetRows, as_column(rows), column, inputs.value_rows));
}

// llm_graph_context::build_attn with a cache
TensorId GraphBuilder::attend_with_cache(Heads heads, TensorId value_unpack) {
  const CacheInputs inputs = cache_inputs();
  heads.query = rotated(heads.query, inputs.key_rotation);
  const bool stores = kind().keeps_keys;
  if (stores) heads.key = rotated(heads.key, inputs.key_rotation);
  if (stores) heads.value = rotated(heads.value, inputs.value_rotation);
  graph_.expand(heads.query);
  if (stores) graph_.expand(traits_.windowed ? heads.key : heads.value);
  if (stores) graph_.expand(traits_.windowed ? heads.value : heads.key);
  const std::uint64_t cells = kind().slides ? request_.sliding_cells : request_.cells;
  const Shape key = graph_.size(heads.key);
  const Shape value = graph_.size(heads.value);
  const std::uint64_t streams = request_.streams;
  const bool transposed = !request_.flash_attention && !traits_.latent;
  const auto cache = [&](std::uint64_t width, Element type) {
    return graph_.stored({width, cells, streams, 1}, type, layer_->device, false);
  };
  const auto look = [&](TensorId of, const Shape& head) {
    const GraphTensor& tensor = graph_.at(of);
    const std::uint64_t length = tensor.stride[1] / std::max<std::uint64_t>(head[1], 1);
    return graph_.view(of, {head[0], head[1], cells, streams},
                       {tensor.element.bytes, length, tensor.stride[1], tensor.stride[2]});
  };
  const TensorId key_cache = cache(key[0] * key[1], request_.key_type);
  if (stores) {
    const std::uint64_t row = graph_.at(heads.key).stride[2];
    const TensorId rows = graph_.view(heads.key, {key[0] * key[1], tokens(), 1, 1},
                                      {kFloat.bytes, row, row * tokens(), row * tokens()});
    graph_.expand(graph_.write(Op::kSetRows, rows, one_stream(key_cache), inputs.key_rows));
  }
  TensorId k = look(key_cache, key);
  TensorId v = kNoTensor;
  if (traits_.latent) {
    const GraphTensor whole = graph_.at(k);
    v = graph_.view(k, {value[0], whole.size[1], cells, streams}, whole.stride);
  } else {
    const std::uint64_t width = value[0] * value[1];
    const TensorId value_cache =
        cache(transposed ? request_.widest_values : width, request_.value_type);
    if (stores) store_value(heads.value, value_cache);
    v = look(value_cache, value);
    if (transposed) {
      const std::uint64_t bytes = request_.value_type.bytes;
      v = graph_.view(
          value_cache, {cells, value[1], value[0], streams},
          {bytes, cells * value[0] * bytes, cells * bytes, cells * request_.widest_values * bytes});
    }
  }
  const Shape query = graph_.size(heads.query);
  const Shape stride = graph_.at(heads.query).stride;
  TensorId q = graph_.view(heads.query, {query[0], query[1], query[2] / streams, streams},
                           {stride[0], stride[1], stride[2], stride[3] / streams});
  q = graph_.permute(q, {0, 2, 1, 3});
  k = graph_.permute(k, {0, 2, 1, 3});
  v = graph_.permute(v, {0, 2, 1, 3});
  TensorId result = request_.flash_attention
                        ? attend_flash(q, k, v, value_unpack, inputs.mask)
                        : attend_plain(q, k, v, value_unpack, inputs.mask, transposed);
  graph_.expand(result);
  if (!traits_.latent) result = rotated(result, inputs.value_rotation);
  return result;
}

// llm_graph_context::build_attn_mha with flash attention: nothing as large as the context.
TensorId GraphBuilder::attend_flash(TensorId q, TensorId k, TensorId v, TensorId value_unpack,
                                    TensorId mask) {
  const Shape query = graph_.size(q);
  const TensorId sinks = kind().has(Part::kSinks) ? weight(Part::kSinks) : kNoTensor;
  TensorId result =
      graph_.compute(Op::kFlashAttention, {graph_.size(v)[0], query[2], query[1], query[3]},
                     {q, k, v, mask, sinks});
  if (value_unpack != kNoTensor) {
    result = graph_.matmul(value_unpack, graph_.permute(result, {0, 2, 1, 3}));
    result = graph_.permute(result, {0, 2, 1, 3});
    result = graph_.compute(Op::kContiguous, graph_.size(result), {result});
  }
  const Shape size = graph_.size(result);
  return graph_.reshape(result, {size[0] * size[1], size[2] * size[3], 1, 1});
}

// Without: the scores of each token with each cell, for every head.
TensorId GraphBuilder::attend_plain(TensorId q, TensorId k, TensorId v, TensorId value_unpack,
                                    TensorId mask, bool transposed) {
  TensorId scores = graph_.matmul(k, q);
  if (traits_.capped_attention) scores = softened_cap(scores);
  const TensorId sinks = kind().has(Part::kSinks) ? weight(Part::kSinks) : kNoTensor;
  scores = graph_.compute(Op::kSoftMax, graph_.size(scores), {scores, mask, sinks});
  if (!transposed) {
    v = graph_.permute(v, {1, 0, 2, 3});
    graph_.at(v).op = Op::kTranspose;
    v = graph_.compute(Op::kContiguous, graph_.size(v), {v}, graph_.at(v).element);
  }
  TensorId result = graph_.matmul(v, scores);
  if (value_unpack != kNoTensor) result = graph_.matmul(value_unpack, result);
  result = graph_.permute(result, {0, 2, 1, 3});
  const Shape size = graph_.size(result);
  return graph_.compute(Op::kContiguous, {size[0] * size[1], size[2] * size[3], 1, 1}, {result});
}

}  // namespace yoke::planner
