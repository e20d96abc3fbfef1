// GraphBuilder: the parts that model_graph() is put together from, each as llama.cpp's
// llm_graph_context builds it. Private to model_graph; one thread at a time.
#pragma once

#include "planner/model_graph.h"

namespace yoke::planner {

class GraphBuilder {
 public:
  GraphBuilder(const ModelShape& shape, const GraphPlaces& places, const GraphRequest& request)
      : shape_(shape), traits_(shape.traits), places_(places), request_(request) {}

  ComputeGraph build(const std::vector<GraphLayer>& layers);

 private:
  // What a kind of layer has as input, made when the first layer wants it.
  struct CacheInputs {
    TensorId mask = kNoTensor;
    TensorId key_rows = kNoTensor;
    TensorId value_rows = kNoTensor;
    TensorId key_rotation = kNoTensor;
    TensorId value_rotation = kNoTensor;
  };
  struct Heads {
    TensorId query = kNoTensor;
    TensorId key = kNoTensor;
    TensorId value = kNoTensor;
  };
  struct LatentKey {
    TensorId latent = kNoTensor;
    TensorId turned = kNoTensor;  // The part that rotates with the position.
  };

  // graph_builder.cc: the frame and what all layers use.
  TensorId embedding();
  TensorId layer(TensorId in, bool last);
  TensorId memory(TensorId in);
  TensorId sum(TensorId now, TensorId beside);
  TensorId norm_behind(Part part, TensorId in);
  TensorId finish(TensorId in);
  void pool(TensorId result);
  TensorId weight(Part part);
  TensorId scan_weight();
  TensorId small_weight(std::uint64_t elements);
  TensorId times(Part part, TensorId in);
  TensorId plus(Part part, TensorId in);
  TensorId norm(Part part, TensorId in, bool on_layer = true);
  TensorId bare_norm(TensorId in, bool on_layer = true);
  TensorId chosen_rows(TensorId in);
  TensorId positions();
  TensorId softened_cap(TensorId in);

  // graph_attention.cc
  TensorId attention(TensorId in);
  TensorId latent_attention(TensorId in);
  TensorId unpacked_latent_attention(TensorId in);
  Heads heads(TensorId in);
  Heads separate_heads(TensorId in);
  TensorId latent_query(TensorId in);
  LatentKey latent_key(TensorId in);
  TensorId attend(Heads heads, TensorId value_unpack);
  TensorId attend_with_cache(Heads heads, TensorId value_unpack);
  TensorId attend_flash(TensorId q, TensorId k, TensorId v, TensorId value_unpack, TensorId mask);
  TensorId attend_plain(TensorId q, TensorId k, TensorId v, TensorId value_unpack, TensorId mask,
                        bool transposed);
  TensorId rotated(TensorId in, TensorId rotation);
  TensorId rope(TensorId in);
  CacheInputs& cache_inputs();
  TensorId one_stream(TensorId cache);
  void store_value(TensorId value, TensorId cache);

  // graph_feed_forward.cc
  TensorId feed_forward(TensorId in);
  TensorId dense(TensorId in, Part gate, Part up, Part down, bool biased);
  TensorId experts(TensorId in);
  TensorId router(TensorId in, TensorId& choice);
  TensorId expert_weights(TensorId scores, TensorId choice);
  TensorId masked_groups(TensorId scores);
  TensorId expert_matmul(Part part, TensorId in, TensorId choice);
  TensorId expert_sum(TensorId outputs);

  // graph_recurrent.cc
  TensorId recurrent(TensorId in);
  TensorId mamba(TensorId in);
  TensorId mamba2(TensorId in);
  TensorId short_convolution(TensorId in);
  TensorId state_ids();
  template <class Take>
  TensorId take_states(TensorId states, const Take& take);
  void store_state(TensorId what, TensorId states);
  TensorId convolved(TensorId in, std::uint64_t channels, TensorId kernel, TensorId state);

  const LayerKind& kind() const { return *layer_->kind; }
  bool is_side_by_side() const { return kind().attends && kind().keeps_state; }
  std::uint64_t tokens() const { return request_.tokens; }
  std::uint64_t tokens_of(TensorId in) const { return graph_.size(in)[1]; }
  std::uint64_t sequence_tokens() const { return request_.tokens / request_.sequences; }

  const ModelShape& shape_;
  const ModelTraits& traits_;
  const GraphPlaces& places_;
  const GraphRequest& request_;
  ComputeGraph graph_;
  const GraphLayer* layer_ = nullptr;
  TensorId positions_ = kNoTensor;
  TensorId wanted_ = kNoTensor;     // Which rows are.
  TensorId state_ids_ = kNoTensor;  // Which sequences a recurrent layer computes,
  TensorId no_ids_ = kNoTensor;     // and which others it moves.
  CacheInputs full_;
  CacheInputs sliding_;
};

}  // namespace yoke::planner
