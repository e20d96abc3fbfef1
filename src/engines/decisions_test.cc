#include "engines/decisions.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engines/test_support.h"

namespace yoke::engines {
namespace {

using config::FlashAttention;
using config::LoadOptions;
using config::ServerType;
using testing::HasSubstr;

// What was decided about a setting.
Decision decision(const LoadDecisions& made, std::string_view setting) {
  const auto found = std::ranges::find(made.decisions, setting, &Decision::setting);
  EXPECT_NE(found, made.decisions.end()) << setting;
  return found == made.decisions.end() ? Decision{} : *found;
}

hardware::Machine machine_with(const std::string& gfx) {
  hardware::Device device;
  device.vendor = hardware::Vendor::kAmd;
  device.gfx = hardware::Fact<std::string>{gfx};
  device.memory.unified = true;
  hardware::Machine machine;
  machine.devices.push_back(std::move(device));
  return machine;
}

struct Batches {
  int logical;
  int physical;
  friend bool operator==(const Batches&, const Batches&) = default;
};

Batches batches(const LoadOptions& options, std::string_view backend,
                const hardware::Machine* machine = nullptr, bool smaller = false) {
  const LoadDecisions made = decide(options, backend, machine, smaller);
  EXPECT_EQ(decision(made, "n_batch").value, std::to_string(made.options.n_batch));
  EXPECT_EQ(decision(made, "n_ubatch").value, std::to_string(made.options.n_ubatch));
  return {made.options.n_batch, made.options.n_ubatch};
}

TEST(Decide, WorkersGetAPromptInSeveralPieces) {
  LoadOptions options;
  options.rpc_servers = {{"127.0.0.1:50052", "desk-2"}};
  EXPECT_EQ(batches(options, "cpu"), (Batches{2048, 512}));
  EXPECT_EQ(batches(options, "vulkan"), (Batches{2048, 512}));
  options.n_ubatch = 1024;
  EXPECT_EQ(batches(options, "cpu"), (Batches{2048, 1024}));
}

TEST(Decide, SaysWhichRpcClientIsAskedFor) {
  LoadOptions options;
  EXPECT_FALSE(
      std::ranges::any_of(decide(options, "cpu", nullptr, false).decisions,
                          [](const Decision& made) { return made.setting == "rpc_client"; }));
  options.rpc_servers = {{"127.0.0.1:50052", "desk-2"}};
  LoadDecisions made = decide(options, "cpu", nullptr, false);
  EXPECT_EQ(decision(made, "rpc_client").value, "pipelined");
  EXPECT_EQ(decision(made, "rpc_client").by, DecidedBy::kDefault);
  EXPECT_EQ(decision(made, "n_gpu_layers").value, "-1");
  EXPECT_EQ(decision(made, "mlock").value, "false");
  EXPECT_FALSE(made.options.mlock);
  EXPECT_GT(*made.options.cache_ram, 0u);
  options.rpc_client = config::RpcClient::kStock;
  made = decide(options, "cpu", nullptr, false);
  EXPECT_EQ(decision(made, "rpc_client").by, DecidedBy::kUser);
  EXPECT_EQ(decision(made, "cache_ram").by, DecidedBy::kKnownFact);
  EXPECT_EQ(made.options.cache_ram, 0u);
  options.cache_ram = 1u << 30;  // What the user says counts.
  EXPECT_EQ(decide(options, "cpu", nullptr, false).options.cache_ram, 1u << 30);
}

TEST(Decide, TakesBatchesThatFitTheBackend) {
  EXPECT_EQ(batches({}, "vulkan"), (Batches{2048, 2048}));
  EXPECT_EQ(batches({}, "rocm"), (Batches{2048, 2048}));
  EXPECT_EQ(batches({}, ""), (Batches{2048, 2048}));
  EXPECT_EQ(decision(decide({}, "cpu", nullptr, false), "n_ubatch").by, DecidedBy::kDefault);
}

TEST(Decide, TakesLargerBatchesOnMoreProcessors) {
  const auto on_threads = [](int threads) {
    LoadOptions options;
    options.threads = threads;
    return batches(options, "cpu");
  };
  EXPECT_EQ(on_threads(1), (Batches{64, 64}));
  EXPECT_EQ(on_threads(3), (Batches{64, 64}));
  EXPECT_EQ(on_threads(6), (Batches{128, 128}));
  EXPECT_EQ(on_threads(16), (Batches{512, 512}));
  EXPECT_EQ(on_threads(128), (Batches{512, 512}));
  hardware::Machine machine;
  machine.host.cpu.usable_threads = 8;
  EXPECT_EQ(batches({}, "cpu", &machine), (Batches{256, 256}));
}

TEST(Decide, TakesAProcessorThatPlaysAGpuForWhatItIs) {
  hardware::Machine machine;
  machine.host.cpu.usable_threads = 2;
  machine.devices.emplace_back().software = true;
  EXPECT_EQ(batches({}, "vulkan", &machine), (Batches{64, 64}));
  machine.devices.emplace_back();
  EXPECT_EQ(batches({}, "vulkan", &machine), (Batches{2048, 2048}));
}

TEST(Decide, LeavesTheUsersBatchesAlone) {
  LoadOptions options;
  options.n_batch = 512;
  EXPECT_EQ(batches(options, "cpu"), (Batches{512, 512}));
  options.n_ubatch = 256;
  EXPECT_EQ(batches(options, "cpu"), (Batches{512, 256}));
  EXPECT_EQ(batches(options, "vulkan", nullptr, true), (Batches{512, 256}));
  const LoadDecisions made = decide(options, "vulkan", nullptr, true);
  EXPECT_EQ(decision(made, "n_batch").by, DecidedBy::kUser);
  EXPECT_EQ(decision(made, "n_ubatch").by, DecidedBy::kUser);
  options.n_batch = 0;
  EXPECT_EQ(batches(options, "cpu"), (Batches{256, 256}));
  options.n_ubatch = 4096;
  EXPECT_EQ(batches(options, "vulkan"), (Batches{4096, 4096}));
}

TEST(Decide, TakesSmallBatchesAfterTheDeviceWasLost) {
  EXPECT_EQ(batches({}, "vulkan", nullptr, true), (Batches{128, 128}));
  const Decision decided = decision(decide({}, "vulkan", nullptr, true), "n_ubatch");
  EXPECT_EQ(decided.by, DecidedBy::kMeasured);
  EXPECT_THAT(decided.source, HasSubstr("#21724"));
  LoadOptions options;
  options.n_batch = 64;
  EXPECT_EQ(batches(options, "vulkan", nullptr, true), (Batches{64, 64}));
  options.n_batch = 1024;
  EXPECT_EQ(batches(options, "vulkan", nullptr, true), (Batches{1024, 128}));
}

// Texts longer than n_ubatch are refused.
TEST(Decide, GivesEmbeddingModelsRoomForATextAlways) {
  LoadOptions options;
  for (const ServerType type : {ServerType::kEmbedding, ServerType::kRerank}) {
    options.server_type = type;
    EXPECT_EQ(batches(options, "cpu"), (Batches{2048, 2048}));
    EXPECT_EQ(batches(options, "vulkan", nullptr, true), (Batches{2048, 2048}));
    EXPECT_EQ(decision(decide(options, "cpu", nullptr, false), "n_ubatch").by,
              DecidedBy::kKnownFact);
  }
}

TEST(Decide, KnowsWhatRadvIsFastestWith) {
  const hardware::Machine strix = machine_with("gfx1151");
  EXPECT_EQ(batches({}, "vulkan", &strix), (Batches{2048, 1024}));
  const Decision decided = decision(decide({}, "vulkan", &strix, false), "n_ubatch");
  EXPECT_EQ(decided.by, DecidedBy::kKnownFact);
  EXPECT_NE(decided.source, "");
  EXPECT_EQ(batches({}, "rocm", &strix), (Batches{2048, 2048}));
  const hardware::Machine other = machine_with("gfx1100");
  EXPECT_EQ(batches({}, "vulkan", &other), (Batches{2048, 2048}));
}

TEST(Decide, TurnsFlashAttentionOnForAQuantizedV) {
  LoadOptions options;
  EXPECT_EQ(decide(options, "vulkan", nullptr, false).options.flash_attn, FlashAttention::kAuto);
  options.cache_type_k = "q8_0";
  EXPECT_EQ(decide(options, "vulkan", nullptr, false).options.flash_attn, FlashAttention::kAuto);
  options.cache_type_v = "q8_0";
  const LoadDecisions made = decide(options, "vulkan", nullptr, false);
  EXPECT_EQ(made.options.flash_attn, FlashAttention::kOn);
  EXPECT_EQ(decision(made, "flash_attn").value, "on");
  EXPECT_EQ(decision(made, "flash_attn").by, DecidedBy::kKnownFact);
  options.flash_attn = FlashAttention::kOff;
  const LoadDecisions off = decide(options, "vulkan", nullptr, false);
  EXPECT_EQ(off.options.flash_attn, FlashAttention::kOff);
  EXPECT_EQ(decision(off, "flash_attn").by, DecidedBy::kUser);
}

TEST(Decide, SaysWhyMemoryIsNotFitted) {
  const hardware::Machine strix = machine_with("gfx1151");
  EXPECT_EQ(decision(decide({}, "rocm", &strix, false), "fit_memory").by, DecidedBy::kKnownFact);
  EXPECT_EQ(decision(decide({}, "cpu", &strix, false), "fit_memory").by, DecidedBy::kDefault);
  LoadOptions options;
  options.fit_memory = true;
  const LoadDecisions made = decide(options, "rocm", &strix, false);
  EXPECT_TRUE(made.options.fit_memory);
  EXPECT_EQ(decision(made, "fit_memory").by, DecidedBy::kUser);
}

TEST(Decide, SpeaksOfLayersOnlyWhereThereIsAGpu) {
  EXPECT_EQ(decision(decide({}, "vulkan", nullptr, false), "n_gpu_layers").value, "-1");
  LoadOptions options;
  options.n_gpu_layers = 20;
  options.mlock = false;
  const LoadDecisions made = decide(options, "vulkan", nullptr, false);
  EXPECT_EQ(decision(made, "n_gpu_layers").by, DecidedBy::kUser);
  EXPECT_EQ(decision(made, "mlock").by, DecidedBy::kUser);
  const LoadDecisions cpu = decide(options, "cpu", nullptr, false);
  EXPECT_EQ(std::ranges::count(cpu.decisions, "n_gpu_layers", &Decision::setting), 0);
}

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

// What is decided on a machine with so much memory, in MiB.
std::uint64_t cache_ram_with(std::uint64_t total, std::optional<std::uint64_t> limit = {}) {
  hardware::Machine machine;
  machine.host.memory.total = total;
  machine.host.memory.limit = limit;
  const LoadDecisions made = decide({}, "cpu", &machine, false);
  EXPECT_EQ(decision(made, "cache_ram").by, DecidedBy::kDefault);
  EXPECT_EQ(decision(made, "cache_ram").value,
            fmt::format("{}MiB", *made.options.cache_ram / kMiB));
  EXPECT_EQ(*made.options.cache_ram % kMiB, 0);
  return *made.options.cache_ram / kMiB;
}

TEST(Decide, KeepsAsManyPromptsAsTheMachineCanSpare) {
  EXPECT_EQ(cache_ram_with(512 * kGiB), 8192);
  EXPECT_EQ(cache_ram_with(32 * kGiB), 1024);
  EXPECT_EQ(cache_ram_with(15 * kGiB + 777), 480);
  EXPECT_EQ(cache_ram_with(64 * kGiB, 8 * kGiB), 256);
  EXPECT_EQ(cache_ram_with(0), 512);
  const ScratchDir dir;
  LoadOptions options;
  hardware::Machine machine;
  machine.host.memory.total = 64 * kGiB;
  const auto with_file = [&](std::uint64_t bytes) {
    options.model_path = dir.write("m.gguf", "GGUF");
    std::filesystem::resize_file(options.model_path, bytes);
    return *decide(options, "cpu", &machine, false).options.cache_ram / kMiB;
  };
  EXPECT_EQ(with_file(100 * kMiB), 256);
  EXPECT_EQ(with_file(700 * kMiB), 700);
  EXPECT_EQ(with_file(40 * kGiB), 2048);
  EXPECT_EQ(decide({}, "cpu", nullptr, false).options.cache_ram, 512 * kMiB);
}

TEST(Decide, KeepsNoPromptsOfEmbeddingModels) {
  LoadOptions options;
  options.server_type = ServerType::kEmbedding;
  EXPECT_EQ(decide(options, "cpu", nullptr, false).options.cache_ram, 0);
  EXPECT_EQ(decision(decide(options, "cpu", nullptr, false), "cache_ram").value, "0");
  options.server_type = ServerType::kRerank;
  EXPECT_EQ(decide(options, "cpu", nullptr, false).options.cache_ram, 0);
}

TEST(Decide, LeavesTheUsersCacheRamAlone) {
  LoadOptions options;
  options.cache_ram = 3 * kGiB;
  LoadDecisions made = decide(options, "vulkan", nullptr, false);
  EXPECT_EQ(made.options.cache_ram, 3 * kGiB);
  EXPECT_EQ(decision(made, "cache_ram").value, "3072MiB");
  EXPECT_EQ(decision(made, "cache_ram").by, DecidedBy::kUser);
  options.cache_ram = 0;
  EXPECT_EQ(decide(options, "vulkan", nullptr, false).options.cache_ram, 0);
}

// The engine takes the last that its command line says.
TEST(Decide, TakesCacheRamFromExtraArguments) {
  const auto with = [](std::vector<std::string> arguments) {
    LoadOptions options;
    options.extra_args = std::move(arguments);
    return decide(options, "cpu", nullptr, false);
  };
  EXPECT_EQ(with({"--cache-ram", "0"}).options.cache_ram, 0);
  EXPECT_EQ(with({"--no-warmup", "-cram", "100"}).options.cache_ram, 100 * kMiB);
  EXPECT_EQ(with({"--cache-ram=7", "--cache-ram=9"}).options.cache_ram, 9 * kMiB);
  EXPECT_EQ(decision(with({"--cache-ram", "0"}), "cache_ram").by, DecidedBy::kUser);
  for (const std::string value : {"-1", "many", "", "1x", "99999999999999999999"}) {
    EXPECT_EQ(with({"--cache-ram", value}).options.cache_ram, 512 * kMiB) << value;
  }
  EXPECT_EQ(with({"--cache-ram"}).options.cache_ram, 512 * kMiB);
}

TEST(Decide, GivesEachDecisionAReason) {
  const hardware::Machine strix = machine_with("gfx1151");
  for (const Decision& made : decide({}, "vulkan", &strix, true).decisions) {
    EXPECT_FALSE(made.why.empty()) << made.setting;
    const bool published = made.by == DecidedBy::kKnownFact;
    EXPECT_TRUE(!published || !made.source.empty()) << made.setting;
  }
}

TEST(DecidedByNames, AreStable) {
  EXPECT_EQ(name_of(DecidedBy::kUser), "user");
  EXPECT_EQ(name_of(DecidedBy::kMeasured), "measured");
  EXPECT_EQ(name_of(DecidedBy::kKnownFact), "known_fact");
  EXPECT_EQ(name_of(DecidedBy::kDefault), "default");
}

}  // namespace
}  // namespace yoke::engines
