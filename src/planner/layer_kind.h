// LayerKind: what a layer computes, as its tensors and the header tell. Layers that compute alike
// share one. Private to the planner; values; pure; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace yoke::planner {

// The tensors of a layer that shape its computation.
enum class Part : std::uint8_t {
  kAttentionNorm,
  kAttentionNormBias,
  kQ,
  kK,
  kV,
  kQkv,
  kQBias,
  kKBias,
  kVBias,
  kQkvBias,
  kQNorm,
  kKNorm,
  kQDown,  // Multi-head latent attention: to the low rank,
  kQDownNorm,
  kQUp,  // and to the heads.
  kKvDown,
  kKvDownNorm,
  kKvUp,
  kKUp,
  kVUp,
  kSinks,
  kAttentionOut,
  kAttentionOutBias,
  kAttentionPostNorm,
  kFeedNorm,
  kFeedNormBias,
  kGate,
  kUp,
  kUpBias,
  kDown,
  kDownBias,
  kFeedPostNorm,
  kRouter,
  kRouterBias,
  kRouterProbabilityBias,
  kExpertGate,
  kExpertGateBias,
  kExpertUp,
  kExpertUpBias,
  kExpertGateUp,
  kExpertDown,
  kExpertDownBias,
  kSharedGate,
  kSharedUp,
  kSharedDown,
  kSharedRouter,
  kStateIn,
  kStateConvolution,
  kStateConvolutionBias,
  kStateX,
  kStateStep,
  kStateStepBias,
  kStateStepNorm,
  kStateA,
  kStateD,
  kStateNorm,
  kStateOut,
  kShortIn,
  kShortConvolution,
  kShortOut,
  kCount,
};

// `name` is without its layer: "attn_q.weight". kCount if it doesn't shape the computation, or in a
// way that is not known.
Part part_of(std::string_view name);

// Of a tensor; all 0 if the layer has none.
struct PartShape {
  std::uint64_t columns = 0;  // What goes in,
  std::uint64_t rows = 0;     // what comes out,
  std::uint64_t depth = 0;    // how often: experts, heads.
  std::uint64_t bytes = 0;
  bool operator==(const PartShape&) const = default;
};

struct LayerKind {
  std::array<PartShape, static_cast<std::size_t>(Part::kCount)> parts{};
  std::uint64_t heads = 0;
  std::uint64_t kv_heads = 0;
  std::uint64_t key_length = 0;
  std::uint64_t value_length = 0;
  std::uint64_t experts_used = 0;
  bool attends = false;
  bool slides = false;      // Attends through a window.
  bool keeps_keys = false;  // False: without a cache, or with another layer's.
  bool keeps_state = false;

  const PartShape& operator[](Part part) const { return parts[static_cast<std::size_t>(part)]; }
  PartShape& operator[](Part part) { return parts[static_cast<std::size_t>(part)]; }
  bool has(Part part) const { return (*this)[part].columns != 0; }
  bool operator==(const LayerKind&) const = default;
};

// What all layers of a model have in common.
struct ModelTraits {
  std::uint64_t latent_rank = 0;  // Of keys and values, with multi-head latent attention.
  std::uint64_t latent_key_length = 0;
  std::uint64_t latent_value_length = 0;  // Of a head, after it has been unpacked.
  std::uint64_t rotated = 0;              // Of a head's key, what positions turn.
  std::uint64_t convolution = 0;          // Of recurrent layers: columns,
  std::uint64_t state_inner = 0;
  std::uint64_t state_size = 0;
  std::uint64_t state_groups = 0;
  std::uint64_t state_heads = 0;
  std::uint64_t token_embedding_bytes = 0;
  std::uint64_t output_matrix_bytes = 0;
  std::uint64_t output_rows = 0;  // 0: the model gives no probabilities of tokens.
  std::uint64_t position_embedding_bytes = 0;
  std::uint64_t expert_groups = 0;
  std::uint64_t expert_groups_used = 0;
  bool latent = false;        // Multi-head latent attention, with keys alone in the cache.
  bool layer_norm = false;    // Not root mean square.
  bool scaled_input = false;  // The embedding, and the queries, are scaled.
  bool capped_logits = false;
  bool capped_attention = false;
  bool normalized_experts = false;
  bool scaled_experts = false;
  bool sigmoid_experts = false;
  bool biased_choice = false;   // The router's result has to be softened after the choice.
  bool late_output = false;     // Rows are chosen behind the last layer, not within it.
  bool residual_first = false;  // What a layer adds to stands before what it adds.
  bool bert = false;
  bool windowed = false;  // Some layers attend through a window.
  bool cached = true;
};

// Whether Vulkan computes the scan of such a layer, which else the host does.
bool vulkan_can_scan(const LayerKind& kind, const ModelTraits& traits);

}  // namespace yoke::planner
