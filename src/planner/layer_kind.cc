#include "planner/layer_kind.h"

#include <algorithm>
#include <utility>

namespace yoke::planner {
namespace {

using Name = std::pair<std::string_view, Part>;

// LLM_TENSOR_NAMES in llama.cpp v0.5.0.
constexpr std::array kNames{
    Name{"attn_k.bias", Part::kKBias},
    Name{"attn_k.weight", Part::kK},
    Name{"attn_k_b.weight", Part::kKUp},
    Name{"attn_k_norm.weight", Part::kKNorm},
    Name{"attn_kv_a_mqa.weight", Part::kKvDown},
    Name{"attn_kv_a_norm.weight", Part::kKvDownNorm},
    Name{"attn_kv_b.weight", Part::kKvUp},
    Name{"attn_norm.bias", Part::kAttentionNormBias},
    Name{"attn_norm.weight", Part::kAttentionNorm},
    Name{"attn_output.bias", Part::kAttentionOutBias},
    Name{"attn_output.weight", Part::kAttentionOut},
    Name{"attn_output_norm.weight", Part::kAttentionPostNorm},
    Name{"attn_q.bias", Part::kQBias},
    Name{"attn_q.weight", Part::kQ},
    Name{"attn_q_a.weight", Part::kQDown},
    Name{"attn_q_a_norm.weight", Part::kQDownNorm},
    Name{"attn_q_b.weight", Part::kQUp},
    Name{"attn_q_norm.weight", Part::kQNorm},
    Name{"attn_qkv.bias", Part::kQkvBias},
    Name{"attn_qkv.weight", Part::kQkv},
    Name{"attn_sinks.weight", Part::kSinks},
    Name{"attn_v.bias", Part::kVBias},
    Name{"attn_v.weight", Part::kV},
    Name{"attn_v_b.weight", Part::kVUp},
    Name{"exp_probs_b.bias", Part::kRouterProbabilityBias},
    Name{"ffn_down.bias", Part::kDownBias},
    Name{"ffn_down.weight", Part::kDown},
    Name{"ffn_down_exps.bias", Part::kExpertDownBias},
    Name{"ffn_down_exps.weight", Part::kExpertDown},
    Name{"ffn_down_shexp.weight", Part::kSharedDown},
    Name{"ffn_gate.weight", Part::kGate},
    Name{"ffn_gate_exps.bias", Part::kExpertGateBias},
    Name{"ffn_gate_exps.weight", Part::kExpertGate},
    Name{"ffn_gate_inp.bias", Part::kRouterBias},
    Name{"ffn_gate_inp.weight", Part::kRouter},
    Name{"ffn_gate_inp_shexp.weight", Part::kSharedRouter},
    Name{"ffn_gate_shexp.weight", Part::kSharedGate},
    Name{"ffn_gate_up_exps.weight", Part::kExpertGateUp},
    Name{"ffn_norm", Part::kFeedNorm},  // Of Falcon-H1.
    Name{"ffn_norm.bias", Part::kFeedNormBias},
    Name{"ffn_norm.weight", Part::kFeedNorm},
    Name{"ffn_up.bias", Part::kUpBias},
    Name{"ffn_up.weight", Part::kUp},
    Name{"ffn_up_exps.bias", Part::kExpertUpBias},
    Name{"ffn_up_exps.weight", Part::kExpertUp},
    Name{"ffn_up_shexp.weight", Part::kSharedUp},
    Name{"layer_output_norm.weight", Part::kFeedPostNorm},
    Name{"post_attention_norm.weight", Part::kAttentionPostNorm},
    Name{"post_ffw_norm.weight", Part::kFeedPostNorm},
    Name{"shortconv.conv.weight", Part::kShortConvolution},
    Name{"shortconv.in_proj.weight", Part::kShortIn},
    Name{"shortconv.out_proj.weight", Part::kShortOut},
    Name{"ssm_a", Part::kStateA},
    Name{"ssm_conv1d.bias", Part::kStateConvolutionBias},
    Name{"ssm_conv1d.weight", Part::kStateConvolution},
    Name{"ssm_d", Part::kStateD},
    Name{"ssm_dt.bias", Part::kStateStepBias},
    Name{"ssm_dt.weight", Part::kStateStep},
    Name{"ssm_dt_norm.weight", Part::kStateStepNorm},
    Name{"ssm_in.weight", Part::kStateIn},
    Name{"ssm_norm.weight", Part::kStateNorm},
    Name{"ssm_out.weight", Part::kStateOut},
    Name{"ssm_x.weight", Part::kStateX},
};

static_assert(std::ranges::is_sorted(kNames, {}, &Name::first));

}  // namespace

Part part_of(std::string_view name) {
  const auto found = std::ranges::lower_bound(kNames, name, {}, &Name::first);
  return found != kNames.end() && found->first == name ? found->second : Part::kCount;
}

// ggml_backend_vk_device_supports_op
bool vulkan_can_scan(const LayerKind& kind, const ModelTraits& traits) {
  if (kind.has(Part::kStateX) || traits.state_heads == 0) return false;
  const std::uint64_t size = traits.state_size;
  return (size == 128 || size == 256) && traits.state_inner / traits.state_heads % 16 == 0;
}

}  // namespace yoke::planner
