#include "planner/plan.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gguf/test_support.h"
#include "planner/placement_search.h"

namespace yoke::planner {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

// A model as Llama's, of 32-bit numbers: 28 MiB a layer, 4 MiB of output. `fatter`: layers that are
// as large again.
ModelShape llama(std::uint32_t layers, const std::vector<std::uint32_t>& fatter = {},
                 std::uint32_t trained = 32768) {
  constexpr std::uint64_t kWidth = 1024;
  constexpr std::uint64_t kVocabulary = 1024;
  gguf::Writer writer;
  writer.add("general.architecture", "llama")
      .add<std::uint32_t>("llama.context_length", trained)
      .add<std::uint32_t>("llama.block_count", layers)
      .add<std::uint32_t>("llama.embedding_length", kWidth)
      .add<std::uint32_t>("llama.feed_forward_length", kWidth)
      .add<std::uint32_t>("llama.attention.head_count", 8)
      .add<std::uint32_t>("llama.attention.head_count_kv", 8)
      .add("tokenizer.ggml.tokens", std::vector<std::string>(kVocabulary, "t"));
  const auto matrix = [&](const std::string& name, std::uint64_t rows) {
    writer.tensor(name, {kWidth, rows}, 0, 4 * kWidth * rows);
  };
  const auto vector = [&](const std::string& name) {
    writer.tensor(name, {kWidth}, 0, 4 * kWidth);
  };
  matrix("token_embd.weight", kVocabulary);
  vector("output_norm.weight");
  matrix("output.weight", kVocabulary);
  for (std::uint32_t i = 0; i < layers; ++i) {
    const bool fat = std::ranges::find(fatter, i) != fatter.end();
    const std::string at = fmt::format("blk.{}.", i);
    for (const char* const norm : {"attn_norm", "ffn_norm"}) vector(at + norm + ".weight");
    for (const char* const part : {"attn_q", "attn_k", "attn_v", "attn_output"}) {
      matrix(at + part + ".weight", kWidth);
    }
    for (const char* const part : {"ffn_gate", "ffn_up", "ffn_down"}) {
      matrix(at + part + ".weight", fat ? 2 * kWidth : kWidth);
    }
  }
  gguf::StringSource source(writer.header(), false);
  auto header = gguf::read_header(source);
  if (!header) throw std::runtime_error(header.error().text());
  gguf::ModelAssembly assembly;
  if (auto added = assembly.add(std::move(*header)); !added) {
    throw std::runtime_error(added.error().text());
  }
  auto model = assembly.finish();
  if (!model) throw std::runtime_error(model.error().text());
  auto shape = shape_of(*model);
  if (!shape) throw std::runtime_error(shape.error().text());
  return *shape;
}

PlanRequest request_for(ModelShape shape) {
  PlanRequest request{.shape = std::move(shape), .options = {}, .split = {}};
  request.options.n_ctx = 1024;
  request.options.n_ubatch = 64;
  return request;
}

// A machine of its own memory and cards of theirs.
Inventory cards(std::uint64_t host, const std::vector<std::uint64_t>& memory) {
  Inventory inventory;
  inventory.pools.push_back({"system memory", "", host, host, 0});
  inventory.devices.push_back({"CPU", "cpu", 0, {}});
  for (const std::uint64_t bytes : memory) {
    const auto pool = static_cast<std::uint32_t>(inventory.pools.size());
    inventory.pools.push_back({fmt::format("card {}'s memory", pool), "", bytes, bytes, 0});
    inventory.devices.push_back({fmt::format("card {}", pool), "vulkan", pool, {}});
  }
  return inventory;
}

Inventory apu(std::uint64_t memory, std::optional<std::uint64_t> reach = {}) {
  Inventory inventory;
  inventory.pools.push_back({"unified memory", "", memory, memory, 0});
  inventory.devices.push_back({"CPU", "cpu", 0, {}});
  inventory.devices.push_back({"GPU", "vulkan", 0, reach});
  return inventory;
}

Inventory apus(std::size_t count, std::uint64_t memory) {
  Inventory inventory;
  for (std::uint32_t i = 0; i < count; ++i) {
    inventory.pools.push_back({fmt::format("m{}: unified memory", i), "m", memory, memory, 0});
  }
  inventory.devices.push_back({"m0: CPU", "cpu", 0, {}});
  for (std::uint32_t i = 1; i < count; ++i) {
    inventory.devices.push_back({fmt::format("m{}: GPU", i), "vulkan", i, {}, true});
  }
  inventory.devices.push_back({"m0: GPU", "vulkan", 0, {}});
  return inventory;
}

Plan plan_for(const PlanRequest& request, const Inventory& inventory) {
  auto plan = make_plan(request, inventory);
  if (!plan) throw std::runtime_error(plan.error().text());
  return *plan;
}

const Share* share_of(const Plan& plan, std::uint32_t device) {
  const auto share = std::ranges::find(plan.shares, device, &Share::device);
  return share == plan.shares.end() ? nullptr : &*share;
}

std::uint64_t size_of(const ModelShape& shape) {
  std::uint64_t bytes = shape.output_bytes;
  for (const LayerShape& layer : shape.layers) bytes += layer.weight_bytes;
  return bytes;
}

// What must hold of every plan.
void check(const Plan& plan, const PlanRequest& request, const Inventory& inventory) {
  std::uint32_t next = 0;
  std::uint32_t outputs = 0;
  std::vector<std::uint64_t> pools(inventory.pools.size());
  std::uint64_t weights = 0;
  for (const Share& share : plan.shares) {
    if (share.layers > 0) {
      EXPECT_EQ(share.first_layer, next);
    }
    next += share.layers;
    outputs += share.output ? 1 : 0;
    pools[inventory.devices[share.device].pool] += share.memory.total();
    weights += share.memory.weights;
    if (plan.fits) {
      EXPECT_LE(share.memory.total(), inventory.usable(share.device));
    }
  }
  EXPECT_EQ(next, request.shape.layers.size());
  EXPECT_EQ(outputs, 1);
  EXPECT_EQ(weights, size_of(request.shape) + request.shape.input_bytes);
  ASSERT_EQ(plan.pools.size(), pools.size());
  for (std::size_t i = 0; i < pools.size(); ++i) {
    EXPECT_EQ(plan.pools[i].planned, pools[i]);
    EXPECT_EQ(plan.pools[i].usable, inventory.pools[i].usable());
    if (plan.fits) {
      EXPECT_LE(pools[i], plan.pools[i].usable);
    }
  }
  EXPECT_EQ(plan.fits, plan.missing == 0);
  EXPECT_FALSE(plan.why.empty());
}

// llama.cpp's own rule, with its single precision.
std::vector<std::uint32_t> as_llama_cpp_splits(const std::vector<std::uint32_t>& split,
                                               std::uint32_t items) {
  std::vector<float> ends;
  float sum = 0;
  for (const std::uint32_t part : split) ends.push_back(sum += static_cast<float>(part));
  for (float& end : ends) end /= sum;
  std::vector<std::uint32_t> counts(split.size());
  for (std::uint32_t i = 0; i < items; ++i) {
    const float at = static_cast<float>(i) / static_cast<float>(items);
    ++counts.at(static_cast<std::size_t>(std::ranges::upper_bound(ends, at) - ends.begin()));
  }
  return counts;
}

TEST(MakePlan, PutsAllOnTheGpuIfItFits) {
  const PlanRequest request = request_for(llama(8));
  const Inventory inventory = cards(kGiB, {4 * kGiB});
  const Plan plan = plan_for(request, inventory);
  check(plan, request, inventory);
  EXPECT_TRUE(plan.fits);
  EXPECT_EQ(plan.gpu_layers, 9);
  EXPECT_EQ(plan.why, "All 8 layers and the output on the GPU.");
  EXPECT_EQ(share_of(plan, 0)->layers, 0);
  EXPECT_EQ(share_of(plan, 0)->memory.weights, request.shape.input_bytes);
}

TEST(MakePlan, UsesTheCpuWithoutAGpu) {
  const PlanRequest request = request_for(llama(8));
  const Inventory inventory = cards(kGiB, {});
  const Plan plan = plan_for(request, inventory);
  check(plan, request, inventory);
  EXPECT_EQ(plan.why, "8 layers on the CPU.");
  EXPECT_EQ(plan.gpu_layers, 0);
  EXPECT_THAT(tensor_split_of(plan, inventory), IsEmpty());
}

TEST(MakePlan, PutsAsManyLayersOnTheGpuAsFit) {
  const PlanRequest request = request_for(llama(16));
  const Inventory inventory = cards(4 * kGiB, {200 * kMiB});
  const Plan plan = plan_for(request, inventory);
  check(plan, request, inventory);
  ASSERT_TRUE(plan.fits);
  EXPECT_GT(plan.gpu_layers, 2);
  EXPECT_LT(plan.gpu_layers, 10);
  EXPECT_TRUE(share_of(plan, 1)->output);
  EXPECT_THAT(plan.notes,
              testing::Contains(HasSubstr(fmt::format("set n_gpu_layers = {}.", plan.gpu_layers))));
  // One more would be too much.
  PlanRequest more = request;
  more.gpu_layers = static_cast<int>(plan.gpu_layers) + 1;
  const Plan worse = plan_for(more, inventory);
  EXPECT_FALSE(worse.fits);
  EXPECT_EQ(worse.gpu_layers, plan.gpu_layers + 1);
  EXPECT_THAT(worse.why, HasSubstr("are needed in card 1's memory, where 200 MiB can be used."));
}

TEST(MakePlan, SaysThatTheCpuSharesItsMemoryWithAnApu) {
  const PlanRequest request = request_for(llama(16));
  const Plan plan = plan_for(request, apu(200 * kMiB));
  EXPECT_FALSE(plan.fits);
  EXPECT_EQ(plan.gpu_layers, 17);
  EXPECT_EQ(plan.missing, plan.pools[0].planned - 200 * kMiB);
  EXPECT_THAT(plan.notes, testing::Contains(HasSubstr("Layers on the CPU would save nothing")));
}

TEST(MakePlan, PutsOnTheCpuWhatAnApusGpuCanNotMap) {
  const PlanRequest request = request_for(llama(16));
  const Inventory inventory = apu(2 * kGiB, 200 * kMiB);
  const Plan plan = plan_for(request, inventory);
  check(plan, request, inventory);
  EXPECT_TRUE(plan.fits);
  EXPECT_LT(plan.gpu_layers, 12);
  EXPECT_THAT(plan.notes, testing::Contains(HasSubstr("GPU can map 200 MiB of 2 GiB.")));
}

TEST(MakePlan, GivesEveryGpuTheSamePartOfItsMemory) {
  const PlanRequest request = request_for(llama(31));
  const Inventory inventory = cards(kGiB, {kGiB, kGiB, 2 * kGiB});
  const Plan plan = plan_for(request, inventory);
  check(plan, request, inventory);
  EXPECT_THAT(tensor_split_of(plan, inventory), ElementsAre(8, 8, 16));
}

// Against all ways to cut.
TEST(MakePlan, FindsTheLeastFullestGpu) {
  const PlanRequest request = request_for(llama(13, {0, 1, 5, 6, 12}));
  const Inventory inventory = cards(kGiB, {300 * kMiB, 150 * kMiB, 400 * kMiB});
  const Plan plan = plan_for(request, inventory);
  check(plan, request, inventory);
  const auto placements = Placements::of(request, inventory);
  ASSERT_TRUE(placements);
  double least = 1e9;
  for (std::uint32_t a = 0; a <= 14; ++a) {
    for (std::uint32_t b = 0; a + b <= 14; ++b) {
      const auto trial = placements->trial({0, a, b, 14 - a - b});
      ASSERT_TRUE(trial);
      least = std::min(least, trial->fullest);
    }
  }
  const std::vector<std::uint32_t> split = tensor_split_of(plan, inventory);
  const auto found = placements->trial({0, split[0], split[1], split[2]});
  ASSERT_TRUE(found);
  EXPECT_NEAR(found->fullest, least, 1e-9);
}

TEST(MakePlan, StaysOnOneMachineIfItFitsThere) {
  const PlanRequest request = request_for(llama(16));
  const Inventory inventory = apus(4, kGiB);
  const Plan plan = plan_for(request, inventory);
  check(plan, request, inventory);
  EXPECT_THAT(tensor_split_of(plan, inventory), ElementsAre(0, 0, 0, 17));
  EXPECT_EQ(plan.why, "All 16 layers and the output on the GPU.");
}

TEST(MakePlan, SpreadsWhatNoMachineHolds) {
  const PlanRequest request = request_for(llama(61));
  const Inventory inventory = apus(4, 600 * kMiB);
  const Plan plan = plan_for(request, inventory);
  check(plan, request, inventory);
  EXPECT_TRUE(plan.fits);
  for (const std::uint32_t count : tensor_split_of(plan, inventory)) {
    EXPECT_GE(count, 14);
    EXPECT_LE(count, 17);
  }
  EXPECT_EQ(plan.why, "All 61 layers and the output on 4 GPUs.");
}

TEST(MakePlan, TakesTheUsersSplitAsLlamaCppDoes) {
  PlanRequest request = request_for(llama(11));
  const Inventory inventory = cards(kGiB, {4 * kGiB, 4 * kGiB, 4 * kGiB});
  request.split = {3, 1};
  EXPECT_THAT(tensor_split_of(plan_for(request, inventory), inventory), ElementsAre(9, 3, 0));
  request.split = {0, 0, 0};
  EXPECT_THAT(tensor_split_of(plan_for(request, inventory), inventory), ElementsAre(4, 4, 4));
  request.split = {1, 1, 1, 1};
  EXPECT_EQ(make_plan(request, inventory).error().code, kModelUnplannable);
}

TEST(MakePlan, TakesTheUsersNumberOfLayers) {
  PlanRequest request = request_for(llama(8));
  const Inventory inventory = cards(kGiB, {kGiB});
  for (const auto& [wanted, layers, output] :
       {std::tuple(0, 0u, false), {1, 0u, true}, {3, 2u, true}, {9, 8u, true}, {99, 8u, true}}) {
    request.gpu_layers = wanted;
    const Plan plan = plan_for(request, inventory);
    check(plan, request, inventory);
    const Share* share = share_of(plan, 1);
    EXPECT_EQ(share != nullptr ? share->layers : 0, layers) << wanted;
    EXPECT_EQ(share != nullptr && share->output, output) << wanted;
  }
}

TEST(MakePlan, RefusesWhatIsNoModelOrNoMachine) {
  EXPECT_EQ(make_plan(request_for(llama(2)), {}).error().code, kModelUnplannable);
  EXPECT_EQ(make_plan({}, cards(kGiB, {})).error().code, kModelUnplannable);
  PlanRequest request = request_for(llama(2));
  request.options.flash_attention = false;
  request.options.cache_type_v = "q8_0";
  EXPECT_EQ(make_plan(request, cards(kGiB, {})).error().code, kModelUnplannable);
}

TEST(MakePlan, HoldsForManyMachines) {
  const std::vector<std::vector<std::uint64_t>> machines{
      {}, {100}, {300}, {100, 100}, {60, 500, 90}, {10, 10, 10, 10}, {0, 400}, {200, 1, 200}};
  for (const std::uint32_t layers : {1u, 2u, 7u, 24u}) {
    for (const auto& megabytes : machines) {
      for (const std::uint64_t host : {std::uint64_t{8}, std::uint64_t{2000}}) {
        std::vector<std::uint64_t> memory;
        for (const std::uint64_t size : megabytes) memory.push_back(size * kMiB);
        const PlanRequest request = request_for(llama(layers, {0}));
        const Inventory inventory = cards(host * kMiB, memory);
        const Plan plan = plan_for(request, inventory);
        check(plan, request, inventory);
        const auto split = tensor_split_of(plan, inventory);
        EXPECT_EQ(split.size(), memory.size());
        EXPECT_EQ(std::accumulate(split.begin(), split.end(), 0u), plan.gpu_layers);
        if (plan.gpu_layers > 0) {
          EXPECT_EQ(as_llama_cpp_splits(split, plan.gpu_layers), split);
        }
      }
    }
  }
}

TEST(PlanInPlace, KeepsThePlacement) {
  PlanRequest request = request_for(llama(12));
  const Inventory inventory = cards(kGiB, {kGiB, 2 * kGiB});
  const Plan plan = plan_for(request, inventory);
  request.options.n_ctx = 16384;
  const auto longer = plan_in_place(plan, request, inventory);
  ASSERT_TRUE(longer);
  check(*longer, request, inventory);
  EXPECT_EQ(tensor_split_of(*longer, inventory), tensor_split_of(plan, inventory));
  EXPECT_GT(share_of(*longer, 1)->memory.kv, share_of(plan, 1)->memory.kv);
  EXPECT_EQ(share_of(*longer, 1)->memory.weights, share_of(plan, 1)->memory.weights);
}

TEST(LongestContext, IsTheLongestThatFits) {
  PlanRequest request = request_for(llama(8));
  for (const Inventory& inventory :
       {cards(kGiB, {700 * kMiB}), cards(kGiB, {300 * kMiB, 500 * kMiB}), apu(800 * kMiB)}) {
    const auto longest = longest_context(request, inventory);
    ASSERT_TRUE(longest && *longest);
    EXPECT_EQ(**longest % 256, 0);
    EXPECT_GT(**longest, 1024);
    EXPECT_LT(**longest, 32768);
    PlanRequest trying = request;
    trying.gpu_layers = 9;
    trying.options.n_ctx = **longest;
    EXPECT_TRUE(plan_for(trying, inventory).fits);
    trying.options.n_ctx += 256;
    EXPECT_FALSE(plan_for(trying, inventory).fits);
  }
}

TEST(LongestContext, IsNotLongerThanTheModelWasTrainedFor) {
  const Inventory large = cards(64 * kGiB, {64 * kGiB});
  EXPECT_EQ(*longest_context(request_for(llama(2)), large), 32768);
  EXPECT_EQ(*longest_context(request_for(llama(2, {}, 1000)), large), 768);
}

TEST(LongestContext, IsNoneIfTheWeightsDoNotFit) {
  EXPECT_EQ(*longest_context(request_for(llama(8)), apu(100 * kMiB)), std::nullopt);
}

TEST(MakePlan, FitsLessTheLongerTheContext) {
  PlanRequest request = request_for(llama(8));
  const Inventory inventory = cards(64 * kMiB, {200 * kMiB, 400 * kMiB});
  bool fitted = true;
  int changes = 0;
  std::uint64_t missing = 0;
  for (request.options.n_ctx = 256; request.options.n_ctx <= 32768; request.options.n_ctx *= 2) {
    const Plan plan = plan_for(request, inventory);
    EXPECT_LE(plan.fits, fitted);
    EXPECT_GE(plan.missing, missing);
    changes += plan.fits != fitted ? 1 : 0;
    fitted = plan.fits;
    missing = plan.missing;
  }
  EXPECT_EQ(changes, 1);
}

TEST(FindRemedies, ComputesWhatFits) {
  PlanRequest request = request_for(llama(8));
  request.options.n_ctx = 16384;
  request.options.n_ubatch = 512;
  request.options.flash_attention = false;
  const Inventory inventory = apu(kGiB);
  EXPECT_FALSE(plan_for(request, inventory).fits);
  const auto found = find_remedies(request, inventory);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->missing, 0);
  ASSERT_EQ(found->remedies.size(), 2);
  EXPECT_THAT(found->remedies[0].change, testing::StartsWith("--flash-attn on"));
  EXPECT_THAT(found->remedies[1].change, testing::StartsWith("--ctx "));
  for (const Remedy& remedy : found->remedies) {
    PlanRequest trying = request;
    trying.options = remedy.options;
    EXPECT_TRUE(plan_for(trying, inventory).fits) << remedy.change;
  }
}

TEST(FindRemedies, SaysWhatIsMissingIfNothingHelps) {
  const PlanRequest request = request_for(llama(8));
  const auto found = find_remedies(request, apu(100 * kMiB));
  ASSERT_TRUE(found);
  EXPECT_THAT(found->remedies, IsEmpty());
  EXPECT_GT(found->missing, 60 * kMiB);
  EXPECT_LT(found->missing, plan_for(request, apu(100 * kMiB)).missing);
}

}  // namespace
}  // namespace yoke::planner
