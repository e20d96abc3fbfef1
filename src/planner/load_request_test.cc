#include "planner/load_request.h"

#include <gtest/gtest.h>

#include "planner/test_models.h"

namespace yoke::planner {
namespace {

using config::FlashAttention;
using config::LoadOptions;
using config::ServerType;

PlanRequest request_for(const LoadOptions& options) {
  auto shape = shape_of(llama_8b().model());
  EXPECT_TRUE(shape);
  return plan_request(std::move(*shape), options);
}

LoadOptions decided() {
  LoadOptions options;
  options.n_batch = 2048;
  options.n_ubatch = 512;
  return options;
}

TEST(PlanRequest, TakesWhatTakesMemory) {
  LoadOptions options = decided();
  options.n_ctx = 4096;
  options.parallel = 2;
  options.cache_type_k = "q8_0";
  options.n_gpu_layers = 7;
  options.tensor_split = {3, 1};
  const PlanRequest request = request_for(options);
  EXPECT_EQ(request.shape.layers.size(), 32);
  EXPECT_EQ(request.options.n_ctx, 4096);
  EXPECT_EQ(request.options.n_batch, 2048);
  EXPECT_EQ(request.options.n_ubatch, 512);
  EXPECT_EQ(request.options.sequences, 2);
  EXPECT_FALSE(request.options.unified_cache);
  EXPECT_EQ(request.options.cache_type_k, "q8_0");
  EXPECT_EQ(request.options.cache_type_v, "f16");
  EXPECT_EQ(request.gpu_layers, 7);
  EXPECT_EQ(request.split, options.tensor_split);
}

TEST(PlanRequest, TakesWhatTheEngineWouldWhereNothingIsSaid) {
  LoadOptions options = decided();
  options.n_ctx = 0;
  const PlanRequest request = request_for(options);
  EXPECT_EQ(request.options.n_ctx, 131072);  // What it was trained for.
  EXPECT_EQ(request.options.sequences, 4);
  EXPECT_TRUE(request.options.unified_cache);
  EXPECT_TRUE(request.options.flash_attention);  // "auto" counts as on.
  EXPECT_FALSE(request.options.embeddings);
  EXPECT_EQ(request.gpu_layers, -1);
}

TEST(PlanRequest, KnowsWhatElseModelsAreServedFor) {
  LoadOptions options = decided();
  options.flash_attn = FlashAttention::kOff;
  EXPECT_FALSE(request_for(options).options.flash_attention);
  options.server_type = ServerType::kEmbedding;
  EXPECT_TRUE(request_for(options).options.embeddings);
  options.server_type = ServerType::kRerank;
  EXPECT_TRUE(request_for(options).options.embeddings);
}

TEST(PlanRequest, ComputesNoMoreThanItIsHanded) {
  LoadOptions options = decided();
  options.n_batch = 64;
  EXPECT_EQ(request_for(options).options.n_ubatch, 64);
}

}  // namespace
}  // namespace yoke::planner
