#include "planner/memory.h"

#include <cmath>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "planner/test_models.h"

namespace yoke::planner {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr double kMiB = 1 << 20;

// The last `gpu_layers` of the layers, and above their number the output too, on one GPU.
Placement on_one_gpu(const ModelShape& shape, std::size_t gpu_layers) {
  Placement placement;
  placement.devices = {{DeviceKind::kCpu, "cpu"}, {DeviceKind::kGpu, "vulkan"}};
  const std::size_t all = shape.layers.size() + 1;
  const std::size_t first = all - std::min(gpu_layers, all);
  for (std::size_t i = 0; i < shape.layers.size(); ++i) {
    placement.layer_device.push_back(i < first ? 0 : 1);
  }
  placement.output_device = gpu_layers == 0 ? 0 : 1;
  return placement;
}

Placement on_cpu(const ModelShape& shape) {
  Placement placement;
  placement.devices = {{DeviceKind::kCpu, "cpu"}};
  placement.layer_device.assign(shape.layers.size(), 0);
  return placement;
}

constexpr std::size_t kNoGpu = ~std::size_t{0};
constexpr std::size_t kAllLayers = 999;

// In MiB, what llama.cpp v0.5.0 says that it would allocate: llama_get_memory_breakdown() of a dry
// run (no_alloc, as in llama-fit-params) with n_outputs_max of one per sequence, as llama-server
// sets it. The GPU is Mesa's lavapipe, made to claim a storage buffer range of 4 GiB, as GPUs have.
struct Reported {
  std::string name;
  std::function<TestModel()> model;
  std::size_t gpu_layers = kNoGpu;
  RunOptions options;
  double host_weights = 0;
  double cache = 0;  // Of all devices.
  double host_compute = 0;
  double gpu_compute = 0;
};

void PrintTo(const Reported& reported, std::ostream* out) { *out << reported.name; }

class MemoryMatchesEngine : public testing::TestWithParam<Reported> {};

TEST_P(MemoryMatchesEngine, ToTheHundredthOfAMebibyte) {
  const Reported& reported = GetParam();
  const auto shape = shape_of(reported.model().model());
  ASSERT_TRUE(shape) << shape.error().message;
  const Placement placement =
      reported.gpu_layers == kNoGpu ? on_cpu(*shape) : on_one_gpu(*shape, reported.gpu_layers);
  const auto estimate = estimate_memory(*shape, reported.options, placement);
  ASSERT_TRUE(estimate) << estimate.error().message;
  constexpr double kRounding = 0.0051;
  double cache = 0;
  for (const DeviceMemory& device : estimate->devices) {
    cache += static_cast<double>(device.kv + device.state) / kMiB;
  }
  const DeviceMemory& host = estimate->devices.front();
  EXPECT_NEAR(static_cast<double>(host.weights) / kMiB, reported.host_weights, kRounding);
  EXPECT_NEAR(cache, reported.cache, kRounding);
  EXPECT_NEAR(static_cast<double>(host.compute) / kMiB, reported.host_compute, kRounding);
  if (estimate->devices.size() < 2) return;
  const auto compute = static_cast<double>(estimate->devices[1].compute);
  EXPECT_NEAR(compute / kMiB, reported.gpu_compute, kRounding);
}

RunOptions without_flash(RunOptions options) {
  options.flash_attention = false;
  return options;
}

INSTANTIATE_TEST_SUITE_P(
    , MemoryMatchesEngine,
    testing::Values(
        Reported{"llama", llama_8b, kNoGpu, {}, 4685.30, 1024, 124.01},
        Reported{"llama_four_streams", llama_8b, kNoGpu,
                 without_flash({.sequences = 4, .unified_cache = false, .cache_type_k = "q8_0"}),
                 4685.30, 784, 168.07},
        Reported{"experts_long_batch",
                 qwen3_30b_a3b,
                 kNoGpu,
                 {.n_ctx = 32768, .n_ubatch = 2048, .cache_type_k = "q8_0", .cache_type_v = "q8_0"},
                 17691.34,
                 1632,
                 480.13},
        Reported{"windows",
                 gemma3_12b,
                 kNoGpu,
                 {.n_ctx = 131072, .sequences = 4},
                 7248.62,
                 9632,
                 253.02},
        Reported{"windows_short_batch", gemma3_12b, kNoGpu, without_flash({.n_ubatch = 64}),
                 7248.62, 912, 41.13},
        Reported{"latent", kimi_k2, kNoGpu, {}, 325137.69, 549, 274.01},
        Reported{"latent_scores", kimi_k2, kNoGpu, without_flash({}), 325137.69, 549, 1256.01},
        Reported{"recurrent", mamba2_2_7b, kNoGpu, {.sequences = 4}, 1526.16, 655.75, 77.65},
        Reported{"recurrent_gpu",
                 mamba2_2_7b,
                 kAllLayers,
                 {.sequences = 4},
                 69.06,
                 655.75,
                 10.00,
                 86.40},
        Reported{"recurrent_part",
                 mamba2_2_7b,
                 40,
                 {.sequences = 3, .unified_cache = false},
                 611.26,
                 491.81,
                 54.21,
                 71.51},
        Reported{"llama_gpu", llama_8b, kAllLayers, {}, 281.81, 1024, 24.01, 108.01},
        Reported{"llama_half", llama_8b, 20, without_flash({.n_ctx = 131072}), 1911.50, 16384,
                 16664.01, 112.50},
        Reported{"llama_beside_gpu", llama_8b, 0, {}, 4685.30, 1024, 24.01, 129.50},
        Reported{"experts_gpu",
                 qwen3_30b_a3b,
                 kAllLayers,
                 {.n_ctx = 32768,
                  .n_ubatch = 2048,
                  .sequences = 4,
                  .cache_type_k = "q4_0",
                  .cache_type_v = "q4_0"},
                 166.92,
                 864,
                 160.13,
                 464.12},
        Reported{"experts_part", qwen3_30b_a3b, 10, {}, 14083.33, 768, 16.01, 246.00},
        Reported{"windows_gpu", gemma3_12b, kAllLayers, {}, 540, 992, 24.52, 122.52},
        Reported{"latent_gpu", kimi_k2, kAllLayers, {}, 630, 549, 36.01, 260.01},
        Reported{"latent_scores_gpu", kimi_k2, kAllLayers, without_flash({}), 630, 549, 44.01,
                 1231.01},
        Reported{"latent_part", kimi_k2, 7, {}, 291890.37, 549, 36.01, 2026.25}),
    [](const testing::TestParamInfo<Reported>& tested) { return tested.param.name; });

ModelShape shape(const TestModel& model) { return shape_of(model.model()).value(); }

TEST(Memory, CountsTheOutputOfEachSequence) {
  const ModelShape llama = shape(llama_8b());
  const auto one = estimate_memory(llama, {}, on_cpu(llama));
  const auto four = estimate_memory(llama, {.sequences = 4}, on_cpu(llama));
  ASSERT_TRUE(one && four);
  EXPECT_EQ(one->devices[0].output, 4 * 128256U);
  EXPECT_EQ(four->devices[0].output, 4 * one->devices[0].output);
}

TEST(Memory, GivesEachDeviceWhatItsLayersTake) {
  const ModelShape llama = shape(llama_8b());
  const auto half = estimate_memory(llama, {}, on_one_gpu(llama, 17));
  ASSERT_TRUE(half);
  EXPECT_EQ(half->devices[0].kv, half->devices[1].kv);
  EXPECT_EQ(half->devices[0].kv + half->devices[1].kv, std::uint64_t{1} << 30);
  std::uint64_t weights = llama.input_bytes + llama.output_bytes;
  for (const LayerShape& layer : llama.layers) weights += layer.weight_bytes;
  EXPECT_EQ(half->devices[0].weights + half->devices[1].weights, weights);
  EXPECT_THAT(half->notes, IsEmpty());
}

TEST(Memory, SeveralGpusKeepCopiesOfWhatGoesIn) {
  const ModelShape llama = shape(llama_8b());
  Placement two = on_one_gpu(llama, kAllLayers);
  two.devices.push_back({DeviceKind::kGpu, "vulkan"});
  for (std::size_t i = 17; i < two.layer_device.size(); ++i) two.layer_device[i] = 2;
  two.output_device = 2;
  const auto estimate = estimate_memory(llama, {.n_ctx = 4096}, two);
  ASSERT_TRUE(estimate);
  // As a dry run reports for -ngl 99 -ts 1,1 -c 4096. What it says of the last GPU is not what a
  // load takes: ggml_backend_sched_reserve_size forgets where norms were to be computed.
  EXPECT_NEAR(static_cast<double>(estimate->devices[0].compute) / kMiB, 32.05, 0.0051);
  EXPECT_NEAR(static_cast<double>(estimate->devices[1].compute) / kMiB, 148.04, 0.0051);
}

TEST(Memory, RefusesWhatTheEngineRefuses) {
  const ModelShape llama = shape(llama_8b());
  const auto message = [&](const RunOptions& options) {
    const auto estimate = estimate_memory(llama, options, on_cpu(llama));
    return estimate ? std::string() : std::string(estimate.error().message);
  };
  EXPECT_THAT(message(without_flash({.cache_type_v = "q8_0"})), HasSubstr("flash attention"));
  EXPECT_THAT(message({.cache_type_k = "q3_k"}), HasSubstr("no type"));
  EXPECT_THAT(message({.sequences = 0}), HasSubstr("sequences"));
  EXPECT_THAT(message({.n_batch = 0}), HasSubstr("batch"));
  EXPECT_EQ(message({}), "");
  const ModelShape kimi = shape(kimi_k2());
  EXPECT_FALSE(estimate_memory(kimi, {.cache_type_k = "q8_0"}, on_cpu(kimi)));
}

TEST(Memory, RefusesAPlacementOfAnotherModel) {
  const ModelShape llama = shape(llama_8b());
  Placement placement = on_cpu(llama);
  placement.layer_device.pop_back();
  EXPECT_FALSE(estimate_memory(llama, {}, placement));
  placement.layer_device.assign(llama.layers.size(), 7);
  EXPECT_FALSE(estimate_memory(llama, {}, placement));
  placement.devices.clear();
  EXPECT_FALSE(estimate_memory(llama, {}, placement));
}

TEST(Memory, AddsAMarginForArchitecturesThatWereNotCompared) {
  const ModelShape llama = shape(llama_8b());
  const ModelShape other = shape(dense_model({.architecture = "unheard-of"}));
  const auto known = estimate_memory(llama, {}, on_cpu(llama));
  const auto unknown = estimate_memory(other, {}, on_cpu(other));
  ASSERT_TRUE(known && unknown);
  EXPECT_EQ(unknown->devices[0].compute, known->devices[0].compute / 4 * 5);
  ASSERT_EQ(unknown->notes.size(), 1U);
  EXPECT_THAT(unknown->notes[0], HasSubstr("unheard-of"));
}

}  // namespace
}  // namespace yoke::planner
