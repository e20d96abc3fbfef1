#include "engines/vllm.h"

#include <algorithm>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engines/hf_config.h"
#include "engines/test_support.h"

namespace yoke::engines {
namespace {

using config::LoadOptions;
using config::ServerType;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::IsSupersetOf;
using testing::Not;
using testing::Pair;

const EngineInstall kCpu{EngineKind::kVllm, "0.32.0", "cpu", "/e", "/e/bin/vllm"};
const EngineInstall kCuda{EngineKind::kVllm, "0.32.0", "cuda", "/c", "/c/bin/vllm"};
const EngineInstall kRocm{EngineKind::kVllm, "0.20.1", "rocm", "/r", "/r/bin/vllm"};
constexpr std::string_view kSmol =
    R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 576, "num_attention_heads": 9,
        "num_hidden_layers": 30, "num_key_value_heads": 3, "max_position_embeddings": 8192})";

// An excerpt of what `vllm serve --help=all` prints.
std::string vllm_help() {
  std::ifstream in(std::filesystem::path(__FILE__).parent_path() / "testdata/vllm_0.32.0_help.txt");
  return {std::istreambuf_iterator<char>(in), {}};
}

Capabilities capabilities() { return parse_vllm_help("0.32.0", vllm_help()).value(); }

hardware::Machine machine_with(hardware::Vendor vendor, const std::string& gfx, int count = 1) {
  hardware::Machine machine;
  for (int i = 0; i < count; ++i) {
    hardware::Device device;
    device.vendor = vendor;
    if (!gfx.empty()) device.gfx = hardware::Fact<std::string>{.value = gfx};
    machine.devices.push_back(std::move(device));
  }
  return machine;
}

class VllmCommandLine : public testing::Test {
 protected:
  VllmCommandLine() { options_.model_path = scratch_.path(); }

  CommandLine make(const EngineInstall& install = kCpu, const hardware::Machine* machine = nullptr,
                   const Capabilities& known = capabilities()) const {
    auto line = vllm_command_line(install, known, options_, "smol", 4711, machine);
    EXPECT_TRUE(line) << (line ? "" : line.error().text());
    return line ? *std::move(line) : CommandLine{};
  }

  ScratchDir scratch_;
  LoadOptions options_;
};

// The value that follows the flag, or "(none)".
std::string value_of(const CommandLine& line, const std::string& flag) {
  const auto at = std::find(line.argv.begin(), line.argv.end(), flag);
  return at == line.argv.end() || at + 1 == line.argv.end() ? "(none)" : *(at + 1);
}

TEST(ParseVllmHelp, ReadsEverySpellingAndWhetherItTakesAValue) {
  const Capabilities known = capabilities();
  EXPECT_EQ(known.version, "0.32.0");
  for (const char* flag :
       {"--host", "--port", "--served-model-name", "--runner", "--nnodes", "-n",
        "--tensor-parallel-size", "-tp", "--kv-cache-dtype", "--api-key", "--quantization", "-q",
        "--tool-call-parser", "--distributed-executor-backend", "--device-memory-utilization"}) {
    EXPECT_TRUE(known.takes_value(flag)) << flag;
  }
  for (const char* flag : {"--enforce-eager", "--no-enforce-eager", "--headless", "-h", "--help",
                           "--enable-lora", "--disable-fastapi-docs"}) {
    EXPECT_TRUE(known.has(flag)) << flag;
    EXPECT_FALSE(known.takes_value(flag)) << flag;
  }
  // Named in descriptions only.
  EXPECT_FALSE(known.has("--api-"));
  EXPECT_FALSE(known.has("-"));
  EXPECT_FALSE(known.has("--tool-parser-plugin"));
}

TEST(ParseVllmHelp, RefusesWhatIsNoHelp) {
  for (const char* text : {"", "\n", "  -", "  --", "  {--a, -b", "  --port PORT", "Traceback\n"}) {
    const auto known = parse_vllm_help("1", text);
    ASSERT_FALSE(known) << text;
    EXPECT_EQ(known.error().code, kEngineUnusable);
  }
}

TEST(ParseVllmHelp, TakesAnyBytes) {
  const std::string help = vllm_help();
  for (std::size_t cut = 0; cut < help.size(); cut += 7) {
    parse_vllm_help("1", std::string_view(help).substr(0, cut));
    parse_vllm_help("1", std::string_view(help).substr(cut));
  }
  SUCCEED();
}

TEST_F(VllmCommandLine, IsThisForTheDefaultsOnACpu) {
  scratch_.write("config.json", std::string(kSmol));
  const CommandLine line = make();
  const std::vector<std::string> expected{"/e/bin/vllm",
                                          "serve",
                                          scratch_.path().string(),
                                          "--host",
                                          "127.0.0.1",
                                          "--port",
                                          "4711",
                                          "--served-model-name",
                                          "smol",
                                          "--allowed-origins",
                                          "[]",
                                          "--disable-fastapi-docs",
                                          "--disable-uvicorn-access-log",
                                          "--max-model-len",
                                          "8192",
                                          "--runner",
                                          "generate",
                                          "--enforce-eager"};
  EXPECT_EQ(line.argv, expected);
  EXPECT_THAT(line.env,
              ElementsAre(Pair("VLLM_CPU_KVCACHE_SPACE", "1"), Pair("VLLM_HOST_IP", "127.0.0.1"),
                          Pair("VLLM_NO_USAGE_STATS", "1"), Pair("VLLM_DO_NOT_TRACK", "1"),
                          Pair("HF_HUB_OFFLINE", "1"), Pair("NO_COLOR", "1"),
                          Pair("PYTHONNOUSERSITE", "1")));
  EXPECT_THAT(line.notes, IsEmpty());
}

TEST_F(VllmCommandLine, TheContextIsWhatTheModelWasMadeForAtMost) {
  options_.n_ctx = 16384;
  EXPECT_EQ(value_of(make(), "--max-model-len"), "16384") << "nothing is known of the model";
  scratch_.write("config.json", std::string(kSmol));
  const CommandLine line = make();
  EXPECT_EQ(value_of(line, "--max-model-len"), "8192");
  EXPECT_THAT(line.notes, ElementsAre(HasSubstr("n_ctx is 8192 instead of 16384")));
  options_.n_ctx = 0;
  EXPECT_EQ(value_of(make(), "--max-model-len"), "(none)") << "vLLM takes it from the model";
  options_.n_ctx = 16384;
  scratch_.write("config.json", R"({"max_position_embeddings": 8192,
                                    "rope_scaling": {"factor": 4.0, "rope_type": "yarn"}})");
  EXPECT_EQ(value_of(make(), "--max-model-len"), "16384") << "scaled, by whatever rule";
}

TEST_F(VllmCommandLine, TheCacheOfACpuFitsTheRequests) {
  // 32 layers of 8 heads of 128 numbers twice: 128 KiB a token.
  scratch_.write("config.json", R"({"num_hidden_layers": 32, "num_attention_heads": 32,
                                    "num_key_value_heads": 8, "head_dim": 128})");
  EXPECT_THAT(make().env, Contains(Pair("VLLM_CPU_KVCACHE_SPACE", "4")));
  options_.parallel = 10;
  const CommandLine line = make();
  EXPECT_THAT(line.env, Contains(Pair("VLLM_CPU_KVCACHE_SPACE", "10")));
  EXPECT_EQ(value_of(line, "--max-num-seqs"), "10");
  options_.gpu_memory_utilization = 0.5;
  EXPECT_THAT(make().env, Not(Contains(Pair("VLLM_CPU_KVCACHE_SPACE", testing::_))));
  EXPECT_EQ(value_of(make(), "--gpu-memory-utilization"), "0.5");
}

TEST_F(VllmCommandLine, EmbeddingAndRerankModelsPool) {
  options_.server_type = ServerType::kEmbedding;
  options_.pooling = "mean";
  const CommandLine line = make();
  EXPECT_EQ(value_of(line, "--runner"), "pooling");
  EXPECT_EQ(value_of(line, "--pooler-config"), R"({"pooling_type":"MEAN"})");
  options_.server_type = ServerType::kRerank;
  EXPECT_EQ(value_of(make(), "--runner"), "pooling");
  EXPECT_EQ(value_of(make(), "--pooler-config"), "(none)");

  // Until 0.10 the flag was another.
  const Capabilities old =
      parse_vllm_help("0.9.0",
                      "  --host HOST   x\n  --port PORT   x\n  --served-model-name NAME\n"
                      "  --task {auto,generate,embed,score}\n")
          .value();
  EXPECT_EQ(value_of(make(kCpu, nullptr, old), "--task"), "score");
  options_.server_type = ServerType::kEmbedding;
  const CommandLine older = make(kCpu, nullptr, old);
  EXPECT_EQ(value_of(older, "--task"), "embed");
  EXPECT_THAT(older.notes, Contains(HasSubstr("pooling is left out")));
}

TEST_F(VllmCommandLine, OnStrixHaloItGetsWhatItNeedsThere) {
  scratch_.write("config.json", R"({"quantization_config": {"quant_method": "awq"}})");
  const auto strix = machine_with(hardware::Vendor::kAmd, "gfx1151");
  const CommandLine line = make(kRocm, &strix);
  EXPECT_THAT(line.argv, Contains("--enforce-eager"));
  EXPECT_EQ(value_of(line, "--attention-backend"), "TRITON_ATTN");
  EXPECT_EQ(value_of(line, "--mm-encoder-attn-backend"), "TRITON_ATTN");
  EXPECT_EQ(value_of(line, "--kv-cache-memory-bytes"), "4294967296");
  EXPECT_EQ(value_of(line, "--quantization"), "awq");
  EXPECT_EQ(value_of(line, "--dtype"), "float16");
  EXPECT_THAT(line.env,
              IsSupersetOf({Pair("FLASH_ATTENTION_TRITON_AMD_ENABLE", "TRUE"),
                            Pair("MIOPEN_FIND_MODE", "FAST"), Pair("VLLM_ROCM_USE_AITER", "0")}));
  EXPECT_THAT(line.env, Not(Contains(Pair("VLLM_CPU_KVCACHE_SPACE", testing::_))));

  options_.gpu_memory_utilization = 0.8;
  EXPECT_EQ(value_of(make(kRocm, &strix), "--kv-cache-memory-bytes"), "(none)");
  const auto instinct = machine_with(hardware::Vendor::kAmd, "gfx942");
  EXPECT_EQ(value_of(make(kRocm, &instinct), "--attention-backend"), "(none)");
  EXPECT_THAT(make(kRocm, &instinct).argv, Not(Contains("--enforce-eager")));
}

TEST_F(VllmCommandLine, SeveralGpusShareAsTheUserSays) {
  const auto two = machine_with(hardware::Vendor::kNvidia, "", 2);
  EXPECT_EQ(value_of(make(kCuda, &two), "--tensor-parallel-size"), "(none)");
  options_.split_mode = "row";
  EXPECT_EQ(value_of(make(kCuda, &two), "--tensor-parallel-size"), "2");
  options_.split_mode = "layer";
  EXPECT_EQ(value_of(make(kCuda, &two), "--pipeline-parallel-size"), "2");
  options_.main_gpu = 1;
  const CommandLine one = make(kCuda, &two);
  EXPECT_EQ(value_of(one, "--pipeline-parallel-size"), "(none)");
  EXPECT_THAT(one.env, Contains(Pair("CUDA_VISIBLE_DEVICES", "1")));
  const auto amd = machine_with(hardware::Vendor::kAmd, "gfx1100", 2);
  EXPECT_THAT(make(kRocm, &amd).env,
              IsSupersetOf({Pair("HIP_VISIBLE_DEVICES", "1"), Pair("CUDA_VISIBLE_DEVICES", "1")}));
}

TEST_F(VllmCommandLine, WithoutAKnownBackendTheMachineDecides) {
  const EngineInstall unknown{EngineKind::kVllm, "", "", "/u", "/u/bin/vllm"};
  const auto nvidia = machine_with(hardware::Vendor::kNvidia, "");
  const auto amd = machine_with(hardware::Vendor::kAmd, "gfx1150");
  EXPECT_THAT(make(unknown).env, Contains(Pair("VLLM_CPU_KVCACHE_SPACE", "4")));
  EXPECT_THAT(make(unknown, &nvidia).env, Not(Contains(Pair("VLLM_CPU_KVCACHE_SPACE", "4"))));
  EXPECT_THAT(make(unknown, &amd).env, Contains(Pair("MIOPEN_FIND_MODE", "FAST")));
}

TEST_F(VllmCommandLine, AnAdapterGetsTheModelsName) {
  const auto adapter = scratch_.write("a/adapter_config.json", R"({"r": 24})").parent_path();
  options_.lora = {adapter, "/other"};
  const CommandLine line = make();
  EXPECT_EQ(value_of(line, "--served-model-name"), "smol-base");
  EXPECT_THAT(line.argv, Contains("--enable-lora"));
  EXPECT_EQ(value_of(line, "--lora-modules"), "smol=" + adapter.string());
  EXPECT_EQ(value_of(line, "--max-lora-rank"), "32");
  EXPECT_THAT(line.notes, Contains(HasSubstr("only the first")));
}

TEST_F(VllmCommandLine, TemplateCacheAndDraftModel) {
  options_.chat_template = scratch_.write("t.jinja", "{{ messages }}").string();
  options_.cache_type_k = options_.cache_type_v = "fp8";
  options_.draft_model = "/models/a \"quoted\" draft";
  const CommandLine line = make();
  EXPECT_EQ(value_of(line, "--chat-template"), options_.chat_template);
  EXPECT_EQ(value_of(line, "--kv-cache-dtype"), "fp8");
  EXPECT_EQ(value_of(line, "--speculative-config"),
            R"({"model":"/models/a \"quoted\" draft","num_speculative_tokens":3})");
}

TEST_F(VllmCommandLine, WhatVllmHasNoCounterpartForIsNoted) {
  options_.chat_template = "chatml";
  options_.cache_type_k = options_.cache_type_v = "q8_0";
  options_.n_gpu_layers = 10;
  options_.mmproj = "/models/p.gguf";
  options_.reasoning_format = "deepseek";
  options_.jinja = false;
  options_.cont_batching = false;
  options_.fit_memory = true;
  const CommandLine line = make();
  for (const char* name : {"chat_template", "cache_type_k", "n_gpu_layers", "mmproj",
                           "reasoning_format", "jinja", "cont_batching", "fit_memory"}) {
    EXPECT_THAT(line.notes, Contains(HasSubstr(std::string(name)))) << name;
  }
  EXPECT_EQ(value_of(line, "--kv-cache-dtype"), "(none)");
}

TEST_F(VllmCommandLine, ThreadsAreTheCpus) {
  options_.threads = 6;
  EXPECT_THAT(make().env, IsSupersetOf({Pair("OMP_NUM_THREADS", "6"),
                                        Pair("VLLM_CPU_OMP_THREADS_BIND", "nobind")}));
  EXPECT_THAT(make(kCuda).notes, Contains(HasSubstr("threads is left out")));
}

TEST_F(VllmCommandLine, ExtraArgsComeLastAndMayNotTakeOver) {
  options_.extra_args = {"--tool-call-parser", "hermes"};
  const CommandLine line = make();
  EXPECT_EQ(line.argv.back(), "hermes");
  for (const char* flag :
       {"--port=1", "--api-key", "--served_model_name=x", "--headless", "--config", "--uds"}) {
    options_.extra_args = {flag};
    const auto refused = vllm_command_line(kCpu, capabilities(), options_, "smol", 1, nullptr);
    ASSERT_FALSE(refused) << flag;
    EXPECT_EQ(refused.error().code, kInvalidArgument);
  }
}

TEST_F(VllmCommandLine, AProgramWithoutWhatIsNeededIsUnusable) {
  Capabilities poor = capabilities();
  poor.valued.erase("--port");
  const auto line = vllm_command_line(kCpu, poor, options_, "smol", 1, nullptr);
  ASSERT_FALSE(line);
  EXPECT_EQ(line.error().code, kEngineUnusable);
  EXPECT_THAT(line.error().message, HasSubstr("--port"));
}

TEST_F(VllmCommandLine, SeveralMachinesShareAModelByLayers) {
  const std::vector<std::string> hosts{"10.0.0.1", "10.0.0.2", "10.0.0.3"};
  const auto lines = vllm_multi_node(kRocm, capabilities(), options_, "big", 4711, hosts);
  ASSERT_TRUE(lines) << lines.error().text();
  ASSERT_EQ(lines->size(), 3u);
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    const CommandLine& line = (*lines)[i];
    EXPECT_EQ(value_of(line, "--nnodes"), "3");
    EXPECT_EQ(value_of(line, "--node-rank"), std::to_string(i));
    EXPECT_EQ(value_of(line, "--master-addr"), "10.0.0.1");
    EXPECT_EQ(value_of(line, "--pipeline-parallel-size"), "3");
    EXPECT_EQ(value_of(line, "--distributed-executor-backend"), "mp");
    EXPECT_THAT(line.env, Contains(Pair("VLLM_HOST_IP", hosts[i])));
    const bool headless = std::ranges::find(line.argv, "--headless") != line.argv.end();
    EXPECT_EQ(headless, i > 0);
    EXPECT_EQ(value_of(line, "--port"), i > 0 ? "(none)" : "4711");
    EXPECT_EQ(line.argv[2], options_.model_path.string());
  }
  const auto one = vllm_multi_node(kRocm, capabilities(), options_, "big", 1, {hosts.data(), 1});
  ASSERT_FALSE(one);
  EXPECT_EQ(one.error().code, kInvalidArgument);
}

TEST(HfConfig, ReadsTheTextPartOfAMultimodalModel) {
  const ScratchDir scratch;
  scratch.write("config.json", R"({"quantization_config": {"quant_method": "gptq"},
    "text_config": {"max_position_embeddings": 4096, "num_hidden_layers": 2, "hidden_size": 64,
                    "num_attention_heads": 4}})");
  const HfConfig config = read_hf_config(scratch.path());
  EXPECT_EQ(config.max_positions, 4096);
  EXPECT_EQ(config.kv_bytes_per_token, 2u * 4 * 16 * 2 * 2);
  EXPECT_EQ(config.quantization, "gptq");
}

TEST(HfConfig, WhatMakesNoSenseIsNotKnown) {
  const ScratchDir scratch;
  for (
      const char* text :
      {"", "[]", "{", "3", R"({"max_position_embeddings": -1, "num_hidden_layers": "x"})",
       R"({"max_position_embeddings": 1e99, "quantization_config": {"quant_method": 4}})",
       R"({"num_hidden_layers": 9223372036854775807, "num_attention_heads": 9223372036854775807,
            "hidden_size": 9223372036854775807, "text_config": []})",
       R"({"text_config": {"num_hidden_layers": 1, "num_attention_heads": 0, "hidden_size": 1}})"}) {
    scratch.write("config.json", text);
    const HfConfig config = read_hf_config(scratch.path());
    EXPECT_EQ(config.max_positions, 0) << text;
    EXPECT_EQ(config.kv_bytes_per_token, 0u) << text;
    EXPECT_EQ(config.quantization, "") << text;
  }
  EXPECT_EQ(read_hf_config("/nonexistent").max_positions, 0);
  EXPECT_EQ(lora_rank("/nonexistent"), 0);
}

}  // namespace
}  // namespace yoke::engines
