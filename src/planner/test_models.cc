#include "planner/test_models.h"

namespace yoke::planner {
namespace {

std::pair<std::uint64_t, std::uint64_t> block(std::uint32_t type) {
  switch (type) {
    case kQ8:
      return {32, 34};
    case kQ2K:
      return {256, 84};
    case kQ4K:
      return {256, 144};
    case kQ6K:
      return {256, 210};
    default:
      return {1, 4};
  }
}

// As llama-quantize mixes them for Q4_K_M.
std::uint32_t mixed_type(std::uint64_t layer, std::uint64_t layers) {
  const bool more = layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
  return more ? kQ6K : kQ4K;
}

}  // namespace

TestModel& TestModel::tensor(std::string name, std::array<std::uint64_t, 3> dims,
                             std::uint32_t type) {
  gguf::Tensor tensor;
  tensor.name = std::move(name);
  tensor.dims = {dims[0], dims[1], dims[2], 1};
  tensor.type = type;
  tensor.bytes = tensor.elements() / block(type).first * block(type).second;
  model_.tensors.push_back(std::move(tensor));
  return *this;
}

TestModel dense_model(const Dense& d) {
  TestModel m(d.architecture);
  m.key("block_count", d.layers).key("embedding_length", d.width).key("context_length", 131072);
  m.key("attention.head_count", d.heads).key("attention.head_count_kv", d.kv_heads);
  m.key("attention.key_length", d.head).key("attention.value_length", d.head);
  m.key("vocab_size", d.vocabulary).number("attention.layer_norm_rms_epsilon", 1e-5);
  if (d.window != 0) m.key("attention.sliding_window", d.window);
  if (d.experts != 0) m.key("expert_count", d.experts).key("expert_used_count", 8);
  m.tensor("token_embd.weight", {d.width, d.vocabulary, 1}, kQ4K);
  m.tensor("output_norm.weight", {d.width, 1, 1}, kF32);
  if (!d.tied) m.tensor("output.weight", {d.width, d.vocabulary, 1}, kQ6K);
  for (std::uint64_t i = 0; i < d.layers; ++i) {
    const std::string p = "blk." + std::to_string(i) + ".";
    const std::uint32_t mixed = mixed_type(i, d.layers);
    m.tensor(p + "attn_norm.weight", {d.width, 1, 1}, kF32);
    m.tensor(p + "attn_q.weight", {d.width, d.heads * d.head, 1}, kQ4K);
    m.tensor(p + "attn_k.weight", {d.width, d.kv_heads * d.head, 1}, kQ4K);
    m.tensor(p + "attn_v.weight", {d.width, d.kv_heads * d.head, 1}, mixed);
    m.tensor(p + "attn_output.weight", {d.heads * d.head, d.width, 1}, kQ4K);
    if (d.head_norms) m.tensor(p + "attn_q_norm.weight", {d.head, 1, 1}, kF32);
    if (d.head_norms) m.tensor(p + "attn_k_norm.weight", {d.head, 1, 1}, kF32);
    m.tensor(p + "ffn_norm.weight", {d.width, 1, 1}, kF32);
    if (d.window != 0) m.tensor(p + "post_attention_norm.weight", {d.width, 1, 1}, kF32);
    if (d.window != 0) m.tensor(p + "post_ffw_norm.weight", {d.width, 1, 1}, kF32);
    const std::string kind = d.experts != 0 ? "_exps.weight" : ".weight";
    const std::uint64_t depth = d.experts != 0 ? d.experts : 1;
    if (d.experts != 0) m.tensor(p + "ffn_gate_inp.weight", {d.width, d.experts, 1}, kF32);
    m.tensor(p + "ffn_gate" + kind, {d.width, d.feed, depth}, kQ4K);
    m.tensor(p + "ffn_up" + kind, {d.width, d.feed, depth}, kQ4K);
    m.tensor(p + "ffn_down" + kind, {d.feed, d.width, depth}, mixed);
  }
  return m;
}

TestModel llama_8b() { return dense_model({}); }

TestModel qwen3_30b_a3b() {
  return dense_model({.architecture = "qwen3moe",
                      .layers = 48,
                      .width = 2048,
                      .kv_heads = 4,
                      .feed = 768,
                      .vocabulary = 151936,
                      .experts = 128,
                      .head_norms = true});
}

TestModel gemma3_12b() {
  return dense_model({.architecture = "gemma3",
                      .layers = 48,
                      .width = 3840,
                      .heads = 16,
                      .head = 256,
                      .feed = 15360,
                      .vocabulary = 262144,
                      .head_norms = true,
                      .tied = true,
                      .window = 1024});
}

// Of Kimi K2's shape: multi-head latent attention, 384 experts and a shared one.
TestModel kimi_k2() {
  constexpr std::uint64_t kWidth = 7168;
  constexpr std::uint64_t kHeads = 64;
  TestModel m("deepseek2");
  m.key("block_count", 61).key("embedding_length", kWidth).key("context_length", 131072);
  m.key("attention.head_count", kHeads).key("attention.head_count_kv", 1);
  m.key("attention.kv_lora_rank", 512).key("attention.q_lora_rank", 1536);
  m.key("attention.key_length", 576).key("attention.value_length", 512);
  m.key("attention.key_length_mla", 192).key("attention.value_length_mla", 128);
  m.key("rope.dimension_count", 64).key("vocab_size", 163840);
  m.key("expert_count", 384).key("expert_used_count", 8).key("expert_gating_func", 2);
  m.flag("expert_weights_norm").number("expert_weights_scale", 2.827);
  m.number("attention.layer_norm_rms_epsilon", 1e-5);
  m.tensor("token_embd.weight", {kWidth, 163840, 1}, kQ4K);
  m.tensor("output_norm.weight", {kWidth, 1, 1}, kF32);
  m.tensor("output.weight", {kWidth, 163840, 1}, kQ6K);
  for (std::uint64_t i = 0; i < 61; ++i) {
    const std::string p = "blk." + std::to_string(i) + ".";
    m.tensor(p + "attn_norm.weight", {kWidth, 1, 1}, kF32);
    m.tensor(p + "attn_q_a.weight", {kWidth, 1536, 1}, kQ4K);
    m.tensor(p + "attn_q_a_norm.weight", {1536, 1, 1}, kF32);
    m.tensor(p + "attn_q_b.weight", {1536, kHeads * 192, 1}, kQ4K);
    m.tensor(p + "attn_kv_a_mqa.weight", {kWidth, 576, 1}, kQ6K);
    m.tensor(p + "attn_kv_a_norm.weight", {512, 1, 1}, kF32);
    m.tensor(p + "attn_k_b.weight", {128, 512, kHeads}, kQ8);
    m.tensor(p + "attn_v_b.weight", {512, 128, kHeads}, kQ6K);
    m.tensor(p + "attn_output.weight", {kHeads * 128, kWidth, 1}, kQ4K);
    m.tensor(p + "ffn_norm.weight", {kWidth, 1, 1}, kF32);
    const std::uint64_t feed = i == 0 ? 18432 : 2048;
    const std::string kind = i == 0 ? ".weight" : "_shexp.weight";
    m.tensor(p + "ffn_gate" + kind, {kWidth, feed, 1}, kQ4K);
    m.tensor(p + "ffn_up" + kind, {kWidth, feed, 1}, kQ4K);
    m.tensor(p + "ffn_down" + kind, {feed, kWidth, 1}, kQ6K);
    if (i == 0) continue;
    m.tensor(p + "ffn_gate_inp.weight", {kWidth, 384, 1}, kF32);
    m.tensor(p + "exp_probs_b.bias", {384, 1, 1}, kF32);
    m.tensor(p + "ffn_gate_exps.weight", {kWidth, 2048, 384}, kQ2K);
    m.tensor(p + "ffn_up_exps.weight", {kWidth, 2048, 384}, kQ2K);
    m.tensor(p + "ffn_down_exps.weight", {2048, kWidth, 384}, kQ2K);
  }
  return m;
}

TestModel mamba2_2_7b() {
  TestModel m("mamba2");
  m.key("block_count", 64).key("embedding_length", 2560).key("context_length", 131072);
  m.key("attention.head_count", 0).key("vocab_size", 50288);
  m.key("ssm.conv_kernel", 4).key("ssm.inner_size", 5120).key("ssm.state_size", 128);
  m.key("ssm.group_count", 1).key("ssm.time_step_rank", 80);
  m.number("attention.layer_norm_rms_epsilon", 1e-5);
  m.tensor("token_embd.weight", {2560, 50288, 1}, kQ4K);
  m.tensor("output_norm.weight", {2560, 1, 1}, kF32);
  for (std::uint64_t i = 0; i < 64; ++i) {
    const std::string p = "blk." + std::to_string(i) + ".";
    m.tensor(p + "attn_norm.weight", {2560, 1, 1}, kF32);
    m.tensor(p + "ssm_conv1d.weight", {4, 5376, 1}, kF32);
    m.tensor(p + "ssm_conv1d.bias", {5376, 1, 1}, kF32);
    m.tensor(p + "ssm_dt.bias", {80, 1, 1}, kF32);
    m.tensor(p + "ssm_a", {1, 80, 1}, kF32).tensor(p + "ssm_d", {1, 80, 1}, kF32);
    m.tensor(p + "ssm_norm.weight", {5120, 1, 1}, kF32);
    m.tensor(p + "ssm_in.weight", {2560, 10576, 1}, kQ4K);
    m.tensor(p + "ssm_out.weight", {5120, 2560, 1}, kQ4K);
  }
  return m;
}

}  // namespace yoke::planner
