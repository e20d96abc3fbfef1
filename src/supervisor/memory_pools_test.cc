#include "supervisor/memory_pools.h"

#include <filesystem>
#include <numeric>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engines/decisions.h"
#include "gguf/test_support.h"
#include "planner/inventory.h"

namespace yoke::supervisor {
namespace {

namespace fs = std::filesystem;
using config::LoadOptions;
using config::MemoryConfig;
using engines::EngineKind;
using hardware::Backend;
using hardware::Device;
using hardware::Machine;
using planner::kGpuReserve;
using scheduler::Need;
using scheduler::Needs;
using scheduler::PoolChanged;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

Machine machine_of(std::uint64_t total, std::uint64_t available) {
  Machine machine;
  machine.host.memory.total = total;
  machine.host.memory.available = available;
  return machine;
}

Device card(const std::string& id, const std::string& name, std::uint64_t total,
            std::uint64_t free) {
  Device device;
  device.id = id;
  device.name.value = name;
  device.memory.total = device.memory.vulkan_total = device.memory.rocm_total = total;
  device.memory.free = free;
  device.backends = {{Backend::kVulkan, true, ""}, {Backend::kRocm, true, ""}};
  return device;
}

// As hardware::memory_budget() sums it up.
Device apu(std::uint64_t carve_out, std::uint64_t gtt, std::uint64_t free) {
  Device device = card("0000:c5:00.0", "Radeon 8060S", carve_out + gtt, free);
  device.memory.unified = true;
  device.memory.carve_out = carve_out;
  device.memory.gtt = gtt;
  device.memory.rocm_total = std::max(carve_out, gtt);
  return device;
}

Machine strix() {
  Machine machine = machine_of(124 * kGiB, 110 * kGiB);
  machine.devices = {apu(512 * kMiB, 120 * kGiB, 110 * kGiB + 512 * kMiB)};
  return machine;
}

Machine with_card(std::uint64_t memory) {
  Machine machine = machine_of(64 * kGiB, 60 * kGiB);
  machine.devices = {card("0000:03:00.0", "RX", memory, memory)};
  return machine;
}

std::vector<std::string> names_of(const MemoryPools& pools) {
  std::vector<std::string> names;
  for (const PoolChanged& pool : pools.pools()) names.push_back(pool.name);
  return names;
}

std::vector<std::uint64_t> budgets_of(const MemoryPools& pools) {
  std::vector<std::uint64_t> budgets;
  for (const PoolChanged& pool : pools.pools()) budgets.push_back(pool.budget);
  return budgets;
}

std::uint64_t in_pool(const Needs& needs, scheduler::PoolId pool) {
  const auto found = std::ranges::find(needs, pool, &Need::pool);
  return found == needs.end() ? 0 : found->bytes;
}

// A model of about 1.2 GiB, as a sparse file.
class MemoryPoolsTest : public testing::Test {
 protected:
  fs::path model(const std::string& name, std::uint64_t layers = 8) const {
    constexpr std::uint64_t kWidth = 2048;
    constexpr std::uint64_t kFeed = 8192;
    constexpr std::uint64_t kTokens = 32000;
    constexpr std::uint32_t kF16 = 1;
    gguf::Writer writer;
    const auto key = [&](const std::string& what, std::uint64_t value) {
      writer.add("llama." + what, static_cast<std::uint32_t>(value));
    };
    const auto matrix = [&](const std::string& what, std::uint64_t rows, std::uint64_t columns) {
      writer.tensor(what, {rows, columns}, kF16, 2 * rows * columns);
    };
    writer.add("general.architecture", "llama");
    writer.add("llama.attention.layer_norm_rms_epsilon", 1e-5F);
    key("block_count", layers);
    key("context_length", 32768);
    key("embedding_length", kWidth);
    key("feed_forward_length", kFeed);
    key("attention.head_count", 16);
    key("attention.head_count_kv", 4);
    key("vocab_size", kTokens);
    matrix("token_embd.weight", kWidth, kTokens);
    matrix("output.weight", kWidth, kTokens);
    writer.tensor("output_norm.weight", {kWidth}, 0, 4 * kWidth);
    for (std::uint64_t i = 0; i < layers; ++i) {
      const std::string p = fmt::format("blk.{}.", i);
      writer.tensor(p + "attn_norm.weight", {kWidth}, 0, 4 * kWidth);
      matrix(p + "attn_q.weight", kWidth, kWidth);
      matrix(p + "attn_k.weight", kWidth, kWidth / 4);
      matrix(p + "attn_v.weight", kWidth, kWidth / 4);
      matrix(p + "attn_output.weight", kWidth, kWidth);
      writer.tensor(p + "ffn_norm.weight", {kWidth}, 0, 4 * kWidth);
      matrix(p + "ffn_gate.weight", kWidth, kFeed);
      matrix(p + "ffn_up.weight", kWidth, kFeed);
      matrix(p + "ffn_down.weight", kFeed, kWidth);
    }
    return sparse(name, writer.header(), writer.header().size() + 32 + writer.data_bytes());
  }

  fs::path sparse(const std::string& name, const std::string& begin, std::uint64_t size) const {
    const fs::path path = scratch_.write(name, begin);
    fs::resize_file(path, size);
    return path;
  }

  LoadOptions options(const fs::path& path, const std::string& backend) const {
    LoadOptions made;
    made.model_path = path;
    made.n_ubatch = 512;
    made.cache_ram = 0;
    return engines::decide(made, backend, nullptr, false).options;
  }

  Needs needs(const MemoryPools& pools, const std::string& backend) const {
    return pools.needs_of(EngineKind::kLlamaCpp, backend, options(model("m.gguf"), backend));
  }

  gguf::ScratchDir scratch_;
};

// Budgets

TEST_F(MemoryPoolsTest, AreTheHostsMemoryWithoutAGpu) {
  const MemoryPools pools(machine_of(64 * kGiB, 60 * kGiB), {});
  EXPECT_THAT(names_of(pools), ElementsAre("system memory"));
  EXPECT_THAT(budgets_of(pools), ElementsAre(60 * kGiB - 64 * kGiB / 50));
  EXPECT_THAT(pools.notes(), IsEmpty());
}

TEST_F(MemoryPoolsTest, StayWithinTheContainersLimit) {
  Machine machine = machine_of(64 * kGiB, 7 * kGiB);
  machine.host.memory.limit = 8 * kGiB;
  EXPECT_THAT(budgets_of(MemoryPools(machine, {})), ElementsAre(6 * kGiB));
  EXPECT_THAT(budgets_of(MemoryPools(machine, {.host = 32 * kGiB})), ElementsAre(8 * kGiB));
}

TEST_F(MemoryPoolsTest, AreOneOnAnApu) {
  const MemoryPools pools(strix(), {});
  EXPECT_THAT(names_of(pools), ElementsAre("unified memory"));
  const std::uint64_t total = 124 * kGiB + 512 * kMiB;
  EXPECT_THAT(budgets_of(pools), ElementsAre(110 * kGiB + 512 * kMiB - total / 50));
  EXPECT_EQ(pools.pool_of("0000:c5:00.0"), 0);
  EXPECT_EQ(pools.pool_of("0000:00:00.0"), std::nullopt);
  for (const std::string backend : {"vulkan", "rocm", "cpu"}) {
    const Needs all = needs(pools, backend);
    ASSERT_EQ(all.size(), 1) << backend;
    EXPECT_EQ(all[0].pool, 0) << backend;
    EXPECT_GT(all[0].bytes, 1200 * kMiB) << backend;
    EXPECT_LT(all[0].bytes, 2200 * kMiB) << backend;
  }
}

TEST_F(MemoryPoolsTest, AreOneForEachCard) {
  Machine machine = machine_of(64 * kGiB, 60 * kGiB);
  machine.devices = {card("0000:03:00.0", "RX", 24 * kGiB, 20 * kGiB),
                     card("0000:04:00.0", "RX", 16 * kGiB, 16 * kGiB),
                     card("0000:05:00.0", "Arc", 12 * kGiB, 12 * kGiB)};
  machine.devices[0].backends = {{Backend::kVulkan, true, ""}};
  machine.devices[2].backends = {{Backend::kVulkan, false, "no driver"}};
  const MemoryPools pools(machine, {});
  EXPECT_THAT(names_of(pools), ElementsAre("system memory", "RX #1's memory", "RX #2's memory"));
  EXPECT_THAT(budgets_of(pools), ElementsAre(60 * kGiB - 64 * kGiB / 50, 20 * kGiB - kGpuReserve,
                                             16 * kGiB - kGpuReserve));
  EXPECT_EQ(pools.pool_of("0000:04:00.0"), 2);
  EXPECT_EQ(pools.pool_of("0000:05:00.0"), std::nullopt);
  // A pool is the same memory for each backend, however that numbers it.
  const Needs rocm = needs(pools, "rocm");
  EXPECT_GT(in_pool(rocm, 2), 1024 * kMiB);
  EXPECT_EQ(in_pool(rocm, 1), 0);
  EXPECT_GT(in_pool(rocm, 0), 256 * kMiB);
  const Needs vulkan = needs(pools, "vulkan");
  EXPECT_GT(in_pool(vulkan, 1) + in_pool(vulkan, 2), 1024 * kMiB);
  const Needs cpu = needs(pools, "cpu");
  ASSERT_EQ(cpu.size(), 1);
  EXPECT_EQ(cpu[0].pool, 0);
}

TEST_F(MemoryPoolsTest, LeaveAnIntegratedGpuBesideACardAlone) {
  Machine machine = strix();
  machine.devices.push_back(card("0000:03:00.0", "RX", 16 * kGiB, 16 * kGiB));
  const MemoryPools pools(machine, {});
  EXPECT_THAT(names_of(pools), ElementsAre("system memory", "RX's memory"));
  EXPECT_EQ(pools.pools()[0].budget, 110 * kGiB - 124 * kGiB / 50);
  EXPECT_GT(in_pool(needs(pools, "vulkan"), 1), 1024 * kMiB);
}

TEST_F(MemoryPoolsTest, AreAsConfigured) {
  const Machine machine = with_card(24 * kGiB);
  const MemoryPools pools(machine, {.host = 10 * kGiB, .gpu = 20 * kGiB});
  EXPECT_THAT(budgets_of(pools), ElementsAre(10 * kGiB, 20 * kGiB));
  EXPECT_THAT(pools.notes(), IsEmpty());
  const MemoryPools more(machine, {.host = 63 * kGiB, .gpu = 40 * kGiB});
  EXPECT_THAT(budgets_of(more), ElementsAre(63 * kGiB, 24 * kGiB));
  EXPECT_THAT(more.notes(),
              ElementsAre(HasSubstr("host of [memory] lets models have 63 GiB of system memory, of "
                                    "which 60 GiB are free now"),
                          HasSubstr("gpu of [memory] is 40 GiB, but RX's memory has only 24 GiB")));
  const MemoryPools none(machine_of(8 * kGiB, 7 * kGiB), {.host = {}, .gpu = kGiB});
  EXPECT_THAT(none.notes(), ElementsAre(HasSubstr("gpu of [memory] is of no use")));
}

// It may be more than is free now, as when something else is about to end.
TEST_F(MemoryPoolsTest, ReachAsFarAsConfiguredOnAnApu) {
  Machine machine = strix();
  machine.host.memory.available = 2 * kGiB;
  machine.devices[0].memory.free = kGiB;
  const MemoryPools pools(machine, {.host = 100 * kGiB});
  EXPECT_THAT(budgets_of(pools), ElementsAre(100 * kGiB));
  const LoadOptions all = options(model("m.gguf"), "vulkan");
  EXPECT_EQ(pools.placed(EngineKind::kLlamaCpp, "vulkan", all), all);
  EXPECT_LT(in_pool(needs(pools, "cpu"), 0), 3 * kGiB);
}

TEST_F(MemoryPoolsTest, LeaveOutWhatNobodyKnowsTheSizeOf) {
  Machine machine = with_card(0);
  const MemoryPools pools(machine, {});
  EXPECT_THAT(names_of(pools), ElementsAre("system memory"));
  EXPECT_THAT(pools.notes(), ElementsAre(HasSubstr("How much there is of RX's memory is unknown")));
  EXPECT_FALSE(pools.has(1));
  EXPECT_EQ(pools.pool_of("0000:03:00.0"), std::nullopt);
  const LoadOptions all = options(model("m.gguf"), "vulkan");
  EXPECT_EQ(pools.placed(EngineKind::kLlamaCpp, "vulkan", all), all);
  const Needs vulkan = needs(pools, "vulkan");
  ASSERT_EQ(vulkan.size(), 1);  // What the engine keeps on the host.
  EXPECT_LT(vulkan[0].bytes, 600 * kMiB);
  EXPECT_THAT(budgets_of(MemoryPools(machine, {.host = {}, .gpu = 8 * kGiB})),
              ElementsAre(60 * kGiB - 64 * kGiB / 50, 8 * kGiB));

  const MemoryPools blind(Machine{}, {});
  EXPECT_THAT(blind.pools(), IsEmpty());
  EXPECT_THAT(needs(blind, "cpu"), IsEmpty());
  EXPECT_THAT(budgets_of(MemoryPools(Machine{}, {.host = 4 * kGiB})), ElementsAre(4 * kGiB));
}

// Needs

TEST_F(MemoryPoolsTest, PlanAgainstTheWholeBudget) {
  const MemoryPools pools(with_card(24 * kGiB), {});
  const Needs all = needs(pools, "vulkan");
  // 8 layers of 117 MiB, the output's 125, 8192 tokens of 16 KiB, and what it takes to compute.
  EXPECT_GT(in_pool(all, 1), (8 * 116 + 125 + 128) * kMiB);
  EXPECT_LT(in_pool(all, 1), (8 * 118 + 125 + 128 + 300) * kMiB);
  // The embedding, and the program itself.
  EXPECT_GT(in_pool(all, 0), (125 + 256) * kMiB);
  EXPECT_LT(in_pool(all, 0), (125 + 256 + 100) * kMiB);
  EXPECT_EQ(needs(pools, "vulkan"), all);
}

TEST_F(MemoryPoolsTest, SayWhatAModelWouldTakeThatFitsNowhere) {
  const MemoryPools pools(machine_of(kGiB, kGiB / 2), {});
  EXPECT_GT(in_pool(needs(pools, "cpu"), 0), pools.pools()[0].budget);
  LoadOptions fitted = options(model("m.gguf"), "cpu");
  fitted.fit_memory = true;
  EXPECT_EQ(in_pool(pools.needs_of(EngineKind::kLlamaCpp, "cpu", fitted), 0),
            pools.pools()[0].budget);
}

TEST_F(MemoryPoolsTest, NeedNothingForWhatCantBeRead) {
  const MemoryPools pools(with_card(24 * kGiB), {});
  const auto of = [&](const fs::path& path) {
    return pools.needs_of(EngineKind::kLlamaCpp, "vulkan", options(path, "vulkan"));
  };
  EXPECT_THAT(of("/nonexistent.gguf"), IsEmpty());
  EXPECT_THAT(of(scratch_.write("x.gguf", "GGUF")), IsEmpty());
  EXPECT_THAT(of(scratch_.path()), IsEmpty());
  EXPECT_THAT(pools.needs_of(EngineKind::kVllm, "rocm", options("/nonexistent", "rocm")),
              IsEmpty());
}

TEST_F(MemoryPoolsTest, CountEarlierPromptsOnTheHost) {
  const MemoryPools pools(with_card(24 * kGiB), {});
  LoadOptions chat = options(model("m.gguf"), "vulkan");
  const Needs without = pools.needs_of(EngineKind::kLlamaCpp, "vulkan", chat);
  chat.cache_ram = 3 * kGiB;
  const Needs with = pools.needs_of(EngineKind::kLlamaCpp, "vulkan", chat);
  EXPECT_EQ(in_pool(with, 0), in_pool(without, 0) + 3 * kGiB);
  EXPECT_EQ(in_pool(with, 1), in_pool(without, 1));
  chat.server_type = config::ServerType::kEmbedding;
  EXPECT_LT(in_pool(pools.needs_of(EngineKind::kLlamaCpp, "vulkan", chat), 0), 2 * kGiB);
}

TEST_F(MemoryPoolsTest, CountWhatGoesWithAModel) {
  const MemoryPools pools(with_card(24 * kGiB), {});
  LoadOptions with = options(model("m.gguf"), "vulkan");
  const auto needs_now = [&] { return pools.needs_of(EngineKind::kLlamaCpp, "vulkan", with); };
  const Needs alone = needs_now();
  with.mmproj = sparse("mmproj.gguf", "", 700 * kMiB);
  EXPECT_EQ(in_pool(needs_now(), 1), in_pool(alone, 1) + 700 * kMiB);
  with.extra_args = {"--no-mmproj-offload"};
  EXPECT_EQ(in_pool(needs_now(), 0), in_pool(alone, 0) + 700 * kMiB);
  with.mmproj.clear();

  with.lora = {sparse("a.gguf", "", 100 * kMiB)};
  const Needs adapted = needs_now();
  EXPECT_GT(in_pool(adapted, 1), in_pool(alone, 1) + 80 * kMiB);
  EXPECT_GT(in_pool(adapted, 0), in_pool(alone, 0) + 5 * kMiB);
  const auto sum = [](const Needs& all) { return in_pool(all, 0) + in_pool(all, 1); };
  EXPECT_NEAR(static_cast<double>(sum(adapted)), static_cast<double>(sum(alone) + 100 * kMiB), 4);
  with.lora.clear();

  with.draft_model = model("draft.gguf", 1);
  const Needs drafted = needs_now();
  EXPECT_GT(in_pool(drafted, 1), in_pool(alone, 1) + 240 * kMiB);  // A layer and the output.
  EXPECT_GT(in_pool(drafted, 0), in_pool(alone, 0) + 125 * kMiB);
  with.draft_model = "/nonexistent.gguf";
  EXPECT_EQ(needs_now(), alone);
}

TEST_F(MemoryPoolsTest, TakeTheGpuThatIsAskedFor) {
  Machine machine = with_card(16 * kGiB);
  machine.devices.push_back(card("0000:04:00.0", "RX", 16 * kGiB, 16 * kGiB));
  const MemoryPools pools(machine, {});
  LoadOptions one = options(model("m.gguf"), "vulkan");
  one.split_mode = "none";
  one.main_gpu = 1;
  const Needs needs = pools.needs_of(EngineKind::kLlamaCpp, "vulkan", one);
  EXPECT_EQ(in_pool(needs, 1), 0);
  EXPECT_GT(in_pool(needs, 2), 1024 * kMiB);
}

TEST_F(MemoryPoolsTest, CountNothingOfWhatRpcServersHave) {
  const MemoryPools pools(machine_of(4 * kGiB, 3 * kGiB), {});
  LoadOptions split = options(model("big.gguf", 80), "cpu");  // About 10 GiB.
  EXPECT_GT(in_pool(pools.needs_of(EngineKind::kLlamaCpp, "cpu", split), 0), 8 * kGiB);
  split.rpc_servers = {{"127.0.0.1:50052", "desk-2"}, {"127.0.0.1:50053", "desk-3"}};
  split.cache_ram = 0;
  const Needs needs = pools.needs_of(EngineKind::kLlamaCpp, "cpu", split);
  EXPECT_THAT(needs, testing::SizeIs(1));
  // The tokens' embeddings are looked up here: 125 MiB of them.
  EXPECT_GT(in_pool(needs, 0), 125 * kMiB);
  EXPECT_LT(in_pool(needs, 0), 500 * kMiB);
  // Those that the user keeps here count.
  split.n_gpu_layers = 41;
  EXPECT_GT(in_pool(pools.needs_of(EngineKind::kLlamaCpp, "cpu", split), 0), 4 * kGiB);
}

TEST_F(MemoryPoolsTest, CountTheGpusShareBesideRpcServers) {
  const MemoryPools pools(with_card(16 * kGiB), {});
  LoadOptions split = options(model("m.gguf"), "vulkan");
  const std::uint64_t all = in_pool(pools.needs_of(EngineKind::kLlamaCpp, "vulkan", split), 1);
  split.rpc_servers = {{"127.0.0.1:50052", "desk-2"}};
  const std::uint64_t half = in_pool(pools.needs_of(EngineKind::kLlamaCpp, "vulkan", split), 1);
  EXPECT_GT(half, all / 3);
  EXPECT_LT(half, all * 3 / 4);
  split.tensor_split = {1, 7};  // The GPU comes first.
  EXPECT_LT(in_pool(pools.needs_of(EngineKind::kLlamaCpp, "vulkan", split), 1), half);
  // The engine divides the layers itself.
  split.tensor_split.clear();
  EXPECT_EQ(pools.placed(EngineKind::kLlamaCpp, "vulkan", split), split);
}

TEST_F(MemoryPoolsTest, KnowWhereAnEngineComputesThatDoesNotSay) {
  const MemoryPools pools(with_card(24 * kGiB), {});
  EXPECT_EQ(needs(pools, ""), needs(pools, "vulkan"));
  const MemoryPools without(machine_of(64 * kGiB, 60 * kGiB), {});
  EXPECT_EQ(needs(without, "").size(), 1);
  EXPECT_EQ(needs(without, "vulkan").size(), 1);
}

// Where layers go

TEST_F(MemoryPoolsTest, PutOnTheGpuWhatFits) {
  const MemoryPools pools(with_card(kGiB + kGpuReserve), {});
  const LoadOptions wanted = options(model("m.gguf"), "vulkan");
  const LoadOptions placed = pools.placed(EngineKind::kLlamaCpp, "vulkan", wanted);
  EXPECT_GT(placed.n_gpu_layers, 0);
  EXPECT_LT(placed.n_gpu_layers, 9);
  EXPECT_THAT(placed.tensor_split, IsEmpty());
  const Needs needs = pools.needs_of(EngineKind::kLlamaCpp, "vulkan", wanted);
  EXPECT_LE(in_pool(needs, 1), kGiB);
  EXPECT_EQ(pools.needs_of(EngineKind::kLlamaCpp, "vulkan", placed), needs);
  EXPECT_EQ(pools.placed(EngineKind::kLlamaCpp, "vulkan", placed), placed);
  EXPECT_EQ(pools.placed(EngineKind::kLlamaCpp, "cpu", wanted), wanted);
  LoadOptions set = wanted;
  set.n_gpu_layers = 2;
  EXPECT_EQ(pools.placed(EngineKind::kLlamaCpp, "vulkan", set), set);
  LoadOptions fitted = wanted;
  fitted.fit_memory = true;
  EXPECT_EQ(pools.placed(EngineKind::kLlamaCpp, "vulkan", fitted), fitted);
}

TEST_F(MemoryPoolsTest, DivideLayersAmongGpusAsPlanned) {
  Machine machine = with_card(2 * kGiB);
  machine.devices.push_back(card("0000:04:00.0", "RX", kGiB, kGiB));
  const MemoryPools pools(machine, {});
  const LoadOptions wanted = options(model("m.gguf", 12), "vulkan");
  const LoadOptions placed = pools.placed(EngineKind::kLlamaCpp, "vulkan", wanted);
  ASSERT_EQ(placed.tensor_split.size(), 2);
  EXPECT_GT(placed.tensor_split[0], placed.tensor_split[1]);
  EXPECT_GT(placed.tensor_split[1], 0);
  EXPECT_EQ(pools.needs_of(EngineKind::kLlamaCpp, "vulkan", placed),
            pools.needs_of(EngineKind::kLlamaCpp, "vulkan", wanted));
  LoadOptions set = wanted;
  set.tensor_split = {1, 1};
  EXPECT_EQ(pools.placed(EngineKind::kLlamaCpp, "vulkan", set).tensor_split, set.tensor_split);
}

// vLLM

class VllmNeeds : public MemoryPoolsTest {
 protected:
  LoadOptions directory() const {
    scratch_.write("config.json", "{}");
    sparse("model.safetensors", "", 10 * kGiB);
    LoadOptions made;
    made.model_path = scratch_.path();
    return made;
  }
};

TEST_F(VllmNeeds, AreAPartOfTheGpu) {
  const MemoryPools pools(with_card(24 * kGiB), {});
  LoadOptions options = directory();
  const auto on_gpu = [&](const MemoryPools& of) {
    return in_pool(of.needs_of(EngineKind::kVllm, "rocm", options), 1);
  };
  EXPECT_NEAR(static_cast<double>(on_gpu(pools)), 0.9 * 24 * kGiB, 2);
  EXPECT_GT(in_pool(pools.needs_of(EngineKind::kVllm, "rocm", options), 0), kGiB);
  options.gpu_memory_utilization = 0.5;
  EXPECT_EQ(on_gpu(pools), 12 * kGiB);
  // Nine tenths of a small one are more than what is left to the driver lets it have.
  options.gpu_memory_utilization = 0;
  const MemoryPools small(with_card(4 * kGiB), {});
  EXPECT_EQ(on_gpu(small), 4 * kGiB - kGpuReserve);
  const MemoryPools capped(with_card(24 * kGiB), {.host = {}, .gpu = 8 * kGiB});
  EXPECT_GT(on_gpu(capped), 20 * kGiB);
}

TEST_F(VllmNeeds, AreOnTheGpusThatItComputesOn) {
  Machine machine = with_card(16 * kGiB);
  machine.devices.push_back(card("0000:04:00.0", "RX", 16 * kGiB, 16 * kGiB));
  const MemoryPools pools(machine, {});
  LoadOptions options = directory();
  const auto needs = [&] { return pools.needs_of(EngineKind::kVllm, "rocm", options); };
  EXPECT_EQ(in_pool(needs(), 2), 0);
  options.main_gpu = 1;
  EXPECT_EQ(in_pool(needs(), 1), 0);
  EXPECT_GT(in_pool(needs(), 2), 14 * kGiB);
  options.main_gpu = -1;
  options.split_mode = "row";
  EXPECT_EQ(in_pool(needs(), 1), in_pool(needs(), 2));
}

TEST_F(VllmNeeds, AreWeightsAndCacheOnTheHost) {
  const std::uint64_t parts = 12 * kGiB + 4 * kGiB;  // With a cache that nobody can calculate.
  const MemoryPools pools(with_card(24 * kGiB), {});
  const Needs cpu = pools.needs_of(EngineKind::kVllm, "cpu", directory());
  ASSERT_EQ(cpu.size(), 1);
  EXPECT_GE(cpu[0].bytes, parts);
  EXPECT_LE(cpu[0].bytes, parts + 4 * kGiB);
  // Where the GPU shares it, a part of it all means nothing.
  Machine machine = strix();
  machine.devices[0].gfx = hardware::Fact<std::string>{.value = "gfx1151"};
  const Needs shared = MemoryPools(machine, {}).needs_of(EngineKind::kVllm, "rocm", directory());
  EXPECT_EQ(shared, cpu);
}

TEST(MaxOf, TakesTheLargerOfEachPool) {
  EXPECT_EQ(max_of({{0, 5}, {1, 9}}, {{2, 3}, {0, 7}}), (Needs{{0, 7}, {1, 9}, {2, 3}}));
  EXPECT_EQ(max_of({}, {{1, 2}}), (Needs{{1, 2}}));
  EXPECT_THAT(max_of({}, {}), IsEmpty());
}

}  // namespace
}  // namespace yoke::supervisor
