#include "engines/llama_cpp.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engines/decisions.h"
#include "engines/test_support.h"

namespace yoke::engines {
namespace {

using config::FlashAttention;
using config::LoadOptions;
using config::ServerType;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

const EngineInstall kCpu{
    .version = "0.5.0", .backend = "cpu", .dir = "/e", .server = "/e/llama-server"};
const EngineInstall kVulkan{.backend = "vulkan", .dir = "/v", .server = "/v/llama-server"};

LoadOptions model() {
  LoadOptions options;
  options.model_path = "/models/m.gguf";
  return options;
}

CommandLine command_line(const LoadOptions& options,
                         const Capabilities& capabilities = real_capabilities(),
                         const EngineInstall& install = kCpu) {
  const LoadOptions decided = decide(options, install.backend, nullptr, false).options;
  auto line = llama_command_line(install, capabilities, decided, "smollm2", 4711, std::nullopt);
  EXPECT_TRUE(line) << (line ? "" : line.error().text());
  return line ? *std::move(line) : CommandLine{};
}

// The value that follows the flag, or "(none)".
std::string value_of(const CommandLine& line, const std::string& flag) {
  const auto at = std::find(line.argv.begin(), line.argv.end(), flag);
  return at == line.argv.end() || at + 1 == line.argv.end() ? "(none)" : *(at + 1);
}

Capabilities capabilities_with(const std::string& more) {
  return parse_capabilities("version: 4000 (abc)\n",
                            "-m,    --model FNAME       the model\n--host HOST   address\n"
                            "--port PORT   port\n" +
                                more)
      .value();
}

TEST(LlamaCommandLine, IsThisForTheDefaults) {
  const CommandLine line = command_line(model());
  const std::vector<std::string> expected{"/e/llama-server",
                                          "--model",
                                          "/models/m.gguf",
                                          "--host",
                                          "127.0.0.1",
                                          "--port",
                                          "4711",
                                          "--alias",
                                          "smollm2",
                                          "--no-ui",
                                          "--offline",
                                          "--slots",
                                          "--metrics",
                                          "--cors-origins",
                                          "localhost",
                                          "--log-colors",
                                          "off",
                                          "--ctx-size",
                                          "8192",
                                          "--batch-size",
                                          "64",
                                          "--ubatch-size",
                                          "64",
                                          "--flash-attn",
                                          "auto",
                                          "--fit",
                                          "off",
                                          "--load-mode",
                                          "mmap+mlock",
                                          "--cache-ram",
                                          "512",
                                          "--jinja",
                                          "--cont-batching"};
  EXPECT_EQ(line.argv, expected);
  EXPECT_THAT(line.notes, IsEmpty());
  EXPECT_THAT(line.env, IsEmpty());
}

TEST(LlamaCommandLine, FollowsTheOptions) {
  LoadOptions options = model();
  options.n_ctx = 0;
  options.n_gpu_layers = 20;
  options.threads = 6;
  options.parallel = 2;
  options.flash_attn = FlashAttention::kOff;
  options.fit_memory = true;
  options.mlock = false;
  options.cont_batching = false;
  options.jinja = false;
  options.reasoning_format = "deepseek";
  options.extra_args = {"--cache-reuse", "256"};
  const CommandLine line = command_line(options, real_capabilities(), kVulkan);
  EXPECT_EQ(value_of(line, "--ctx-size"), "0");
  EXPECT_EQ(value_of(line, "--n-gpu-layers"), "20");
  EXPECT_EQ(value_of(line, "--threads"), "6");
  EXPECT_EQ(value_of(line, "--parallel"), "2");
  EXPECT_EQ(value_of(line, "--flash-attn"), "off");
  EXPECT_EQ(value_of(line, "--fit"), "on");
  EXPECT_EQ(value_of(line, "--reasoning-format"), "deepseek");
  EXPECT_THAT(line.argv, Not(Contains("--load-mode")));
  EXPECT_THAT(line.argv, Contains("--no-cont-batching"));
  EXPECT_THAT(line.argv, Contains("--no-jinja"));
  EXPECT_EQ(line.argv[line.argv.size() - 2], "--cache-reuse");
  EXPECT_EQ(line.argv.back(), "256");
}

TEST(LlamaCommandLine, LeavesBatchesThatNobodyDecidedToTheEngine) {
  const auto line =
      llama_command_line(kCpu, real_capabilities(), model(), "m", 1, std::nullopt).value();
  EXPECT_THAT(line.argv, Not(Contains("--batch-size")));
  EXPECT_THAT(line.argv, Not(Contains("--ubatch-size")));
}

LoadOptions model_with_workers() {
  LoadOptions options = model();
  options.rpc_servers = {{"127.0.0.1:50052", "desk-2"}, {"127.0.0.1:50053", "desk-3"}};
  return options;
}

TEST(LlamaCommandLine, GivesAllLayersToRpcServers) {
  LoadOptions options = model_with_workers();
  options.tensor_split = {1, 2};
  const CommandLine line = command_line(options);
  EXPECT_EQ(value_of(line, "--rpc"), "127.0.0.1:50052,127.0.0.1:50053");
  EXPECT_EQ(value_of(line, "--n-gpu-layers"), "999");
  EXPECT_EQ(value_of(line, "--tensor-split"), "1,2");
  EXPECT_EQ(value_of(line, "--load-mode"), "mmap");
  EXPECT_EQ(value_of(line, "--batch-size"), "2048");
  EXPECT_EQ(value_of(line, "--ubatch-size"), "512");
  EXPECT_EQ(value_of(line, "--cache-ram"), "512");
  EXPECT_THAT(line.argv, Not(Contains("--device")));
}

TEST(LlamaCommandLine, TheStockRpcClientLoadsAsItLikesAndKeepsNoPrompts) {
  LoadOptions options = model_with_workers();
  options.rpc_client = config::RpcClient::kStock;
  const CommandLine line = command_line(options);
  EXPECT_EQ(value_of(line, "--rpc"), "127.0.0.1:50052,127.0.0.1:50053");
  EXPECT_THAT(line.argv, Not(Contains("--load-mode")));
  EXPECT_EQ(value_of(line, "--cache-ram"), "0");
}

TEST(LlamaCommandLine, PutsTheOneGpuHereBeforeRpcServers) {
  Capabilities capabilities = real_capabilities();
  capabilities.devices = {"Vulkan0"};
  const CommandLine line = command_line(model_with_workers(), capabilities, kVulkan);
  EXPECT_EQ(value_of(line, "--device"), "Vulkan0,RPC0,RPC1");
  // The engine looks them up as it reads its command line.
  EXPECT_LT(std::ranges::find(line.argv, "--rpc"), std::ranges::find(line.argv, "--device"));
  capabilities.devices = {"Vulkan0", "Vulkan1"};
  EXPECT_THAT(command_line(model_with_workers(), capabilities, kVulkan).argv,
              Not(Contains("--device")));
  EXPECT_THAT(command_line(model(), capabilities, kVulkan).argv, Not(Contains("--device")));
}

TEST(LlamaCommandLine, NeedsAnEngineWithRpcForRpcServers) {
  const auto line = llama_command_line(kCpu, capabilities_with(""), model_with_workers(), "m", 1);
  ASSERT_FALSE(line);
  EXPECT_EQ(line.error().code, kEngineUnusable);
  EXPECT_THAT(line.error().message, HasSubstr("it has no --rpc"));
}

TEST(LlamaCommandLine, PassesCacheTypesAndTheSplit) {
  LoadOptions options = model();
  options.cache_type_k = "q8_0";
  options.cache_type_v = "q4_0";
  options.split_mode = "row";
  options.tensor_split = {3, 0.5, 0};
  options.main_gpu = 1;
  const CommandLine gpu = command_line(options, real_capabilities(), kVulkan);
  EXPECT_EQ(value_of(gpu, "--cache-type-k"), "q8_0");
  EXPECT_EQ(value_of(gpu, "--cache-type-v"), "q4_0");
  EXPECT_EQ(value_of(gpu, "--flash-attn"), "on");
  EXPECT_EQ(value_of(gpu, "--split-mode"), "row");
  EXPECT_EQ(value_of(gpu, "--tensor-split"), "3,0.5,0");
  EXPECT_EQ(value_of(gpu, "--main-gpu"), "1");
  const CommandLine cpu = command_line(options);
  EXPECT_EQ(value_of(cpu, "--cache-type-k"), "q8_0");
  for (const char* flag : {"--split-mode", "--tensor-split", "--main-gpu"}) {
    EXPECT_THAT(cpu.argv, Not(Contains(flag)));
  }
}

TEST(LlamaCommandLine, RefusesAQuantizedVWithoutFlashAttention) {
  LoadOptions options = model();
  options.cache_type_v = "q8_0";
  options.flash_attn = FlashAttention::kOff;
  const auto line = llama_command_line(kCpu, real_capabilities(), options, "m", 1, std::nullopt);
  ASSERT_FALSE(line);
  EXPECT_EQ(line.error().code, kInvalidArgument);
  EXPECT_THAT(line.error().text(), HasSubstr("flash_attn"));
  options.cache_type_v = "bf16";
  EXPECT_TRUE(llama_command_line(kCpu, real_capabilities(), options, "m", 1, std::nullopt));
}

TEST(LlamaCommandLine, PassesTheFilesBesidesTheModel) {
  LoadOptions options = model();
  options.mmproj = "/m/mmproj.gguf";
  options.draft_model = "/m/draft.gguf";
  options.lora = {"/m/a.gguf", "/m/b, c.gguf"};
  const CommandLine line = command_line(options);
  EXPECT_EQ(value_of(line, "--mmproj"), "/m/mmproj.gguf");
  EXPECT_EQ(value_of(line, "--spec-draft-model"), "/m/draft.gguf");
  EXPECT_EQ(value_of(line, "--spec-type"), "draft-simple");
  EXPECT_EQ(std::ranges::count(line.argv, "--lora"), 2);
  EXPECT_EQ(value_of(line, "--lora"), "/m/a.gguf");
  EXPECT_THAT(line.argv, Contains("/m/b, c.gguf"));
  EXPECT_THAT(line.notes, IsEmpty());
}

TEST(LlamaCommandLine, DraftsTheWayTheUserNames) {
  LoadOptions options = model();
  options.draft_model = "/m/draft.gguf";
  for (const std::vector<std::string>& own :
       {std::vector<std::string>{"--spec-type", "draft-eagle3"}, {"--spec-type=draft-eagle3"}}) {
    options.extra_args = own;
    EXPECT_THAT(command_line(options).argv, Not(Contains("draft-simple")));
  }
  options.extra_args.clear();
  const Capabilities old = capabilities_with("-md,   --model-draft FNAME   draft model\n");
  EXPECT_EQ(value_of(command_line(options, old), "--model-draft"), "/m/draft.gguf");
  EXPECT_THAT(command_line(options, old).argv, Not(Contains("--spec-type")));
}

TEST(LlamaCommandLine, TellsTemplatesByNameFromTemplateFiles) {
  LoadOptions options = model();
  options.chat_template = "/m/t.jinja";
  const CommandLine file = command_line(options);
  EXPECT_EQ(value_of(file, "--chat-template-file"), "/m/t.jinja");
  EXPECT_THAT(file.argv, Contains("--jinja"));

  // With --jinja the name would be taken for a template's text.
  options.chat_template = "llama3";
  const CommandLine name = command_line(options);
  EXPECT_EQ(value_of(name, "--chat-template"), "llama3");
  EXPECT_THAT(name.argv, Contains("--no-jinja"));
  EXPECT_THAT(name.argv, Not(Contains("--jinja")));
  EXPECT_THAT(name.notes, Contains(HasSubstr("jinja is left out")));

  options.chat_template = "chatml";
  EXPECT_THAT(command_line(options).argv, Contains("--jinja"));
  EXPECT_THAT(command_line(options).notes, IsEmpty());
}

TEST(LlamaCommandLine, NotesEveryOptionThatAnOldEngineHasNot) {
  LoadOptions options = model();
  options.cache_type_k = options.cache_type_v = "q8_0";
  options.split_mode = "row";
  options.tensor_split = {1};
  options.main_gpu = 0;
  options.mmproj = options.draft_model = "/m/x.gguf";
  options.lora = {"/m/x.gguf"};
  options.chat_template = "chatml";
  const CommandLine line = command_line(options, capabilities_with(""), kVulkan);
  for (const char* name : {"cache_type_k", "cache_type_v", "split_mode", "tensor_split", "main_gpu",
                           "mmproj", "draft_model", "lora", "chat_template"}) {
    EXPECT_THAT(line.notes, Contains(HasSubstr(std::string(name) + " is left out"))) << name;
  }
  EXPECT_THAT(line.argv, Not(Contains("/m/x.gguf")));
}

TEST(LlamaCommandLine, AsksForAllLayersExceptOnACpu) {
  EXPECT_EQ(value_of(command_line(model(), real_capabilities(), kVulkan), "--n-gpu-layers"), "999");
  EXPECT_THAT(command_line(model()).argv, Not(Contains("--n-gpu-layers")));
}

TEST(LlamaCommandLine, SetsUpEmbeddingsAndReranking) {
  LoadOptions options = model();
  options.server_type = ServerType::kEmbedding;
  options.pooling = "mean";
  const CommandLine embedding = command_line(options);
  EXPECT_THAT(embedding.argv, Contains("--embedding"));
  EXPECT_EQ(value_of(embedding, "--pooling"), "mean");
  EXPECT_THAT(embedding.argv, Not(Contains("--jinja")));

  options.server_type = ServerType::kRerank;
  const CommandLine rerank = command_line(options);
  EXPECT_THAT(rerank.argv, Contains("--reranking"));
  EXPECT_THAT(rerank.argv, Not(Contains("--embedding")));
}

TEST(LlamaCommandLine, LocksMemoryByTheFlagThatThereIs) {
  const Capabilities old = capabilities_with("--mlock      force system to keep model in RAM\n");
  EXPECT_THAT(command_line(model(), old).argv, Contains("--mlock"));
  EXPECT_EQ(value_of(command_line(model(), real_capabilities()), "--load-mode"), "mmap+mlock");
  EXPECT_EQ(value_of(command_line(model(), real_capabilities(), kVulkan), "--load-mode"), "mlock");
  const Capabilities first = capabilities_with("--load-mode MODE   how\n    - mlock: in RAM\n");
  EXPECT_EQ(value_of(command_line(model(), first), "--load-mode"), "mlock");
  const CommandLine neither = command_line(model(), capabilities_with(""));
  EXPECT_THAT(neither.argv, Not(Contains("--mlock")));
  EXPECT_THAT(neither.notes, Contains(HasSubstr("mlock is left out")));
}

TEST(LlamaCommandLine, WarnsWhenTheModelIsOverTheLockLimit) {
  const ScratchDir dir;
  LoadOptions options = model();
  options.model_path = dir.write("m.gguf", std::string(2000, 'x'));
  const auto line = [&](std::optional<std::uint64_t> limit) {
    return llama_command_line(kCpu, real_capabilities(), options, "m", 1, limit).value();
  };
  EXPECT_EQ(value_of(line(2000), "--load-mode"), "mmap+mlock");
  const CommandLine over = line(1999);
  EXPECT_THAT(over.argv, Not(Contains("--load-mode")));
  ASSERT_EQ(over.notes.size(), 1u);
  EXPECT_THAT(over.notes[0], HasSubstr("ulimit -l unlimited"));
  options.mlock = false;
  EXPECT_THAT(line(0).notes, IsEmpty());
}

TEST(LlamaCommandLine, LetsChatModelsSaveTheirSlots) {
  const auto line = [](const LoadOptions& options, const Capabilities& capabilities) {
    return llama_command_line(kCpu, capabilities, options, "m", 1, std::nullopt, "/state/kv")
        .value();
  };
  LoadOptions options = model();
  EXPECT_EQ(value_of(line(options, real_capabilities()), "--slot-save-path"), "/state/kv");
  EXPECT_THAT(command_line(options).argv, Not(Contains("--slot-save-path")));
  const CommandLine old = line(options, capabilities_with(""));
  EXPECT_THAT(old.argv, Not(Contains("--slot-save-path")));
  options.server_type = ServerType::kEmbedding;
  EXPECT_THAT(line(options, real_capabilities()).argv, Not(Contains("--slot-save-path")));
}

TEST(LlamaCommandLine, LimitsTheEnginesCacheOfPrompts) {
  LoadOptions options = model();
  options.cache_ram = std::uint64_t{3} << 30;
  EXPECT_EQ(value_of(command_line(options), "--cache-ram"), "3072");
  options.cache_ram = 0;
  EXPECT_EQ(value_of(command_line(options), "--cache-ram"), "0");
  const auto undecided =
      llama_command_line(kCpu, real_capabilities(), model(), "m", 1, std::nullopt).value();
  EXPECT_THAT(undecided.argv, Not(Contains("--cache-ram")));
}

TEST(LlamaCommandLine, KnowsTheOldFlashAttentionFlag) {
  const Capabilities old = capabilities_with("-fa,   --flash-attn             enable it\n");
  LoadOptions options = model();
  options.flash_attn = FlashAttention::kOn;
  const CommandLine on = command_line(options, old);
  ASSERT_THAT(on.argv, Contains("--flash-attn"));
  EXPECT_NE(value_of(on, "--flash-attn"), "on");
  options.flash_attn = FlashAttention::kOff;
  EXPECT_THAT(command_line(options, old).argv, Not(Contains("--flash-attn")));
}

TEST(LlamaCommandLine, NotesWhatAnOldEngineCanNotDo) {
  LoadOptions options = model();
  options.parallel = 2;
  options.mlock = false;
  const CommandLine line = command_line(options, capabilities_with("--ctx-size N   context\n"));
  EXPECT_EQ(value_of(line, "--ctx-size"), "8192");
  EXPECT_THAT(line.notes, Contains(HasSubstr("parallel is left out: llama-server 4000 (abc)")));
  // Off is what an engine without the flag does anyway.
  EXPECT_THAT(line.notes, Not(Contains(HasSubstr("fit_memory"))));
}

TEST(LlamaCommandLine, RefusesAnEngineThatCanNotServe) {
  const auto capabilities = parse_capabilities("", "-m,   --model FNAME    model\n").value();
  const auto line = llama_command_line(kCpu, capabilities, model(), "m", 1, std::nullopt);
  ASSERT_FALSE(line);
  EXPECT_EQ(line.error().code, kEngineUnusable);
  EXPECT_THAT(line.error().message, HasSubstr("--host"));
}

TEST(LlamaCommandLine, RefusesExtraArgsThatOpenTheEngine) {
  for (const char* flag : {"--host", "--port", "--api-key", "--api_key", "--host=0.0.0.0"}) {
    LoadOptions options = model();
    options.extra_args = {flag, "0.0.0.0"};
    const auto line = llama_command_line(kCpu, real_capabilities(), options, "m", 1, std::nullopt);
    ASSERT_FALSE(line) << flag;
    EXPECT_EQ(line.error().code, kInvalidArgument);
  }
}

TEST(HealthOfStatus, TellsLoadingFromFailing) {
  EXPECT_EQ(health_of_status(200), Health::kReady);
  EXPECT_EQ(health_of_status(503), Health::kLoading);
  EXPECT_EQ(health_of_status(500), Health::kFailing);
  EXPECT_EQ(health_of_status(404), Health::kFailing);
}

}  // namespace
}  // namespace yoke::engines
