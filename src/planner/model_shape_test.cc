#include "planner/model_shape.h"

#include <chrono>
#include <cstdint>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "planner/memory.h"
#include "planner/test_models.h"

namespace yoke::planner {
namespace {

using testing::HasSubstr;

TEST(ModelShape, TellsWhatALayerRemembers) {
  const auto llama = shape_of(llama_8b().model());
  ASSERT_TRUE(llama);
  EXPECT_EQ(llama->layers.size(), 32U);
  EXPECT_EQ(llama->layers[0].memory, LayerMemory::kAttention);
  EXPECT_EQ(llama->layers[0].key_elements, 1024U);
  EXPECT_EQ(llama->layers[0].value_elements, 1024U);
  EXPECT_EQ(llama->tied_bytes, 0U);
  EXPECT_TRUE(llama->measured);

  const auto kimi = shape_of(kimi_k2().model());
  ASSERT_TRUE(kimi);
  EXPECT_EQ(kimi->layers[0].key_elements, 576U);
  EXPECT_EQ(kimi->layers[0].value_elements, 0U);
  EXPECT_EQ(kimi->layers[0].expert_bytes, 0U);
  EXPECT_GT(kimi->layers[1].expert_bytes, kimi->layers[1].weight_bytes / 10 * 9);

  const auto mamba = shape_of(mamba2_2_7b().model());
  ASSERT_TRUE(mamba);
  EXPECT_EQ(mamba->layers[0].memory, LayerMemory::kRecurrent);
  EXPECT_EQ(mamba->layers[0].state_bytes, 4 * (3 * 5376 + 5120 * 128U));
}

TEST(ModelShape, KnowsWhichLayersLookThroughAWindow) {
  const auto gemma = shape_of(gemma3_12b().model());
  ASSERT_TRUE(gemma);
  EXPECT_EQ(gemma->window, 1024U);
  for (std::size_t i = 0; i < gemma->layers.size(); ++i) {
    EXPECT_EQ(gemma->layers[i].memory,
              i % 6 == 5 ? LayerMemory::kAttention : LayerMemory::kSliding);
  }
}

TEST(ModelShape, CountsATiedMatrixForTheOutput) {
  const auto gemma = shape_of(gemma3_12b().model());
  ASSERT_TRUE(gemma);
  EXPECT_EQ(gemma->tied_bytes, gemma->input_bytes);
  EXPECT_EQ(gemma->output_bytes, gemma->tied_bytes + 3840 * 4);
}

TEST(ModelShape, LeavesOutLayersThatGuessAhead) {
  TestModel model = llama_8b();
  model.key("nextn_predict_layers", 1);
  const auto shape = shape_of(model.model());
  ASSERT_TRUE(shape);
  EXPECT_EQ(shape->layers.size(), 32U);
  EXPECT_EQ(shape->layers[31].weight_bytes, 0U);
  EXPECT_EQ(shape->layers[31].memory, LayerMemory::kNone);
  EXPECT_GT(shape->layers[30].weight_bytes, 0U);
}

TEST(ModelShape, RefusesWhatIsNoModel) {
  const auto empty = shape_of(TestModel("llama").model());
  ASSERT_FALSE(empty);
  EXPECT_EQ(empty.error().code, kModelUnplannable);
  EXPECT_THAT(empty.error().message, HasSubstr("how many layers"));
  EXPECT_FALSE(shape_of(TestModel("clip").key("block_count", 2).model()));
}

// A value that no model has is an error or some figure, never a crash.
TEST(ModelShape, HoldsAgainstHostileNumbers) {
  constexpr const char* kKeys[] = {"block_count",
                                   "embedding_length",
                                   "attention.head_count",
                                   "attention.head_count_kv",
                                   "attention.key_length",
                                   "attention.value_length",
                                   "attention.key_length_mla",
                                   "attention.kv_lora_rank",
                                   "attention.sliding_window",
                                   "attention.sliding_window_pattern",
                                   "rope.dimension_count",
                                   "vocab_size",
                                   "expert_used_count",
                                   "expert_group_count",
                                   "expert_group_used_count",
                                   "ssm.conv_kernel",
                                   "ssm.inner_size",
                                   "ssm.state_size",
                                   "ssm.group_count",
                                   "ssm.time_step_rank",
                                   "nextn_predict_layers"};
  for (const auto& make : {llama_8b, qwen3_30b_a3b, gemma3_12b, kimi_k2, mamba2_2_7b}) {
    const gguf::Model original = make().model();
    const std::string prefix = std::string(original.metadata.architecture()) + ".";
    for (const char* const key : kKeys) {
      for (const std::uint64_t value : {0ULL, 65537ULL, ~0ULL}) {
        gguf::Model model = original;
        model.metadata = {};
        model.metadata.add(prefix + key, {gguf::ValueType::kUint64, gguf::Scalar(value)});
        for (const auto& [name, old] : original.metadata.values()) model.metadata.add(name, old);
        const auto shape = shape_of(model);
        if (!shape) continue;
        Placement placement;
        placement.devices = {{DeviceKind::kCpu, "cpu"}, {DeviceKind::kGpu, "vulkan"}};
        placement.layer_device.assign(shape->layers.size(), 1);
        if (!shape->layers.empty()) placement.layer_device.front() = 0;
        RunOptions options;
        options.flash_attention = value != 0;
        const auto estimate = estimate_memory(*shape, options, placement);
        if (estimate) {
          EXPECT_EQ(estimate->devices.size(), 2U);
        }
      }
    }
  }
}

// The most work that a header can make of it, on devices that share nothing.
TEST(ModelShape, IsEstimatedInBoundedTime) {
  TestModel model("qwen3moe");
  constexpr std::uint64_t kLayers = 512;
  model.key("block_count", kLayers).key("embedding_length", 64).key("context_length", 4096);
  model.key("attention.head_count", 2).key("attention.key_length", 32).key("vocab_size", 256);
  model.key("expert_count", 512).key("expert_used_count", 16);
  model.number("attention.layer_norm_rms_epsilon", 1e-5);
  model.tensor("token_embd.weight", {64, 256, 1}, kF32);
  for (std::uint64_t i = 0; i < kLayers; ++i) {  // No layer is like another.
    const std::string p = "blk." + std::to_string(i) + ".";
    for (const char* const part : {"attn_q", "attn_k", "attn_v", "attn_output"}) {
      model.tensor(p + part + ".weight", {64, 64, 1}, kF32);
    }
    model.tensor(p + "ffn_norm.weight", {64, 1, 1}, kF32);
    model.tensor(p + "ffn_gate_inp.weight", {64, 512, 1}, kF32);
    model.tensor(p + "ffn_up_exps.weight", {64, 64 + i, 512}, kF32);
    model.tensor(p + "ffn_gate_exps.weight", {64, 64 + i, 512}, kF32);
    model.tensor(p + "ffn_down_exps.weight", {64 + i, 64, 512}, kF32);
  }
  const auto start = std::chrono::steady_clock::now();
  const auto shape = shape_of(model.model());
  ASSERT_TRUE(shape) << shape.error().message;
  Placement placement;
  placement.devices = {{DeviceKind::kCpu, "cpu"}, {DeviceKind::kGpu, "vulkan"}};
  for (std::uint32_t i = 0; i < kLayers; ++i) placement.layer_device.push_back(i % 2);
  EXPECT_TRUE(estimate_memory(*shape, {}, placement));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

}  // namespace
}  // namespace yoke::planner
