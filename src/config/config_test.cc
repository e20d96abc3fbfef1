#include "config/config.h"

#include <cstdlib>
#include <fstream>
#include <sys/stat.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yoke::config {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kModel = "[models.smollm2]\nmodel_path = \"/m/s.gguf\"\n";
constexpr const char* kSecret = "0123456789abcdef-secret";

Config parsed(const std::string& text) {
  auto config = parse_config(text, "yoke.toml");
  EXPECT_TRUE(config) << (config ? "" : config.error().text());
  return config ? std::move(*config) : Config{};
}

// The error that `text` followed by a good model gives.
Error error_of(const std::string& text) {
  const auto config = parse_config(text + "\n" + kModel, "yoke.toml");
  EXPECT_FALSE(config) << text;
  return config ? Error{kInternal, "no error"} : config.error();
}

Error model_error(const std::string& line) {
  const auto config = parse_config(kModel + line, "yoke.toml");
  EXPECT_FALSE(config) << line;
  return config ? Error{kInternal, "no error"} : config.error();
}

class ScratchDir {
 public:
  ScratchDir() {
    std::string pattern = (fs::temp_directory_path() / "yoke-config-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~ScratchDir() { fs::remove_all(path_); }
  fs::path write(const std::string& name, const std::string& text, ::mode_t mode = 0600) const {
    const fs::path file = path_ / name;
    std::ofstream(file) << text;
    ::chmod(file.c_str(), mode);
    return file;
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

TEST(ParseConfig, ASizeMayBeANumberOfBytes) {
  const std::string model = kModel;
  EXPECT_EQ(parsed("[server]\nmax_request_size = 2048\n" + model).server.max_request_bytes, 2048u);
  EXPECT_EQ(parsed("[memory]\nhost = 3000000000\n" + model).memory.host, 3'000'000'000u);
  EXPECT_EQ(error_of("[server]\nmax_request_size = -1").code, kConfigInvalid);
  EXPECT_EQ(error_of("[server]\nmax_request_size = 2.5").code, kConfigInvalid);
}

TEST(ParseConfig, NeedsNoMoreThanAModel) {
  const Config config = parsed(kModel);
  EXPECT_EQ(config.server.host, "127.0.0.1");
  EXPECT_EQ(config.server.port, 8642);
  EXPECT_EQ(config.server.api_key, "");
  EXPECT_EQ(config.server.max_request_bytes, 64u << 20);
  EXPECT_EQ(config.server.start_timeout, std::chrono::minutes(5));
  EXPECT_FALSE(config.engines.llama_server);
  ASSERT_EQ(config.models.size(), 1u);
  EXPECT_EQ(config.models[0].name, "smollm2");
  EXPECT_EQ(config.models[0].line, 1);
  EXPECT_EQ(config.models[0].options.model_path, "/m/s.gguf");
  EXPECT_EQ(config.models[0].options.cache_ram, std::nullopt);
  EXPECT_EQ(config.models[0].residence, ResidenceConfig{});
  EXPECT_EQ(config.memory, MemoryConfig{});
  EXPECT_EQ(config.contexts, ContextsConfig{});
}

TEST(ParseConfig, ReadsEveryKey) {
  const Config config = parsed(R"(
[server]
listen = "[::]:9000"
api_key = "0123456789abcdef-secret"
allowed_origins = ["https://chat.example.org", "http://localhost:3000"]
max_request_size = "1MiB"
start_timeout = "90s"
first_byte_timeout = "2h"
idle_timeout = "250ms"
hang_timeout = "0s"
threads = 3
model_dir = "/models"
log_level = "debug"

[engines]
llama_server = "/opt/llama-server"

[memory]
host = "100GiB"
gpu = "20GiB"
unload_after = "1h"

[contexts]
max_size = "0"
save_after = "5s"

[groups.small]
one_at_a_time = true
not_with = ["large"]

[groups.large]

[models."qwen3:8b"]
preload = false
pinned = true
priority = -3
group = "small"
unload_after = "10m"
max_waiting = 7
cache_ram = "2GiB"
model_path = "sub/q.gguf"
server_type = "embedding"
n_ctx = 0
n_batch = 1024
backends = ["rocm", "cpu"]
n_ubatch = 512
n_gpu_layers = 20
threads = 4
parallel = 2
flash_attn = "off"
fit_memory = true
mlock = false
cont_batching = false
jinja = false
reasoning_format = "deepseek"
pooling = "mean"
extra_args = ["--cache-reuse", "256"]
)");
  const ServerConfig& server = config.server;
  EXPECT_EQ(server.host, "::");
  EXPECT_EQ(server.port, 9000);
  EXPECT_EQ(server.api_key, kSecret);
  EXPECT_EQ(server.allowed_origins.size(), 2u);
  EXPECT_EQ(server.max_request_bytes, 1u << 20);
  EXPECT_EQ(server.start_timeout, milliseconds(90'000));
  EXPECT_EQ(server.first_byte_timeout, std::chrono::hours(2));
  EXPECT_EQ(server.idle_timeout, milliseconds(250));
  EXPECT_EQ(server.hang_timeout, milliseconds(0));
  EXPECT_EQ(server.threads, 3u);
  EXPECT_EQ(server.log_level, log::Level::kDebug);
  EXPECT_EQ(config.engines.llama_server, "/opt/llama-server");
  EXPECT_EQ(config.memory, (MemoryConfig{100ull << 30, 20ull << 30}));
  EXPECT_EQ(config.contexts, (ContextsConfig{0, milliseconds(5000)}));
  EXPECT_THAT(config.groups, testing::ElementsAre(GroupConfig{"small", true, {"large"}},
                                                  GroupConfig{"large", false, {}}));
  ASSERT_EQ(config.models.size(), 1u);
  EXPECT_EQ(config.models[0].name, "qwen3:8b");
  EXPECT_EQ(config.models[0].residence, (ResidenceConfig{.preload = false,
                                                         .pinned = true,
                                                         .priority = -3,
                                                         .group = "small",
                                                         .unload_after = std::chrono::minutes(10),
                                                         .max_waiting = 7}));
  EXPECT_EQ(config.models[0].options.cache_ram, 2ull << 30);
  const LoadOptions& options = config.models[0].options;
  EXPECT_EQ(options.model_path, "/models/sub/q.gguf");
  EXPECT_EQ(options.server_type, ServerType::kEmbedding);
  EXPECT_EQ(options.n_ctx, 0);
  EXPECT_EQ(options.n_batch, 1024);
  EXPECT_EQ(options.backends, (std::vector<std::string>{"rocm", "cpu"}));
  EXPECT_EQ(options.n_ubatch, 512);
  EXPECT_EQ(options.n_gpu_layers, 20);
  EXPECT_EQ(options.threads, 4);
  EXPECT_EQ(options.parallel, 2);
  EXPECT_EQ(options.flash_attn, FlashAttention::kOff);
  EXPECT_TRUE(options.fit_memory);
  EXPECT_FALSE(options.mlock);
  EXPECT_FALSE(options.cont_batching);
  EXPECT_FALSE(options.jinja);
  EXPECT_EQ(options.reasoning_format, "deepseek");
  EXPECT_EQ(options.pooling, "mean");
  EXPECT_EQ(options.extra_args, (std::vector<std::string>{"--cache-reuse", "256"}));
}

TEST(ParseConfig, ExpandsTheHomeDirectoryInPaths) {
  const Config config = parsed("[models.m]\nmodel_path = \"~/m.gguf\"\n");
  EXPECT_EQ(config.models[0].options.model_path, fs::path(std::getenv("HOME")) / "m.gguf");
}

TEST(ParseConfig, KeepsTheOrderOfTheFile) {
  const Config config = parsed("[models.z]\nmodel_path = \"z\"\n[models.a]\nmodel_path = \"a\"\n");
  ASSERT_EQ(config.models.size(), 2u);
  EXPECT_EQ(config.models[0].name, "z");
  EXPECT_EQ(config.models[1].name, "a");
}

TEST(ParseConfig, AUbatchIsAtMostABatch) {
  EXPECT_EQ(parsed(std::string(kModel) + "n_batch = 256").models[0].options.n_ubatch, 0);
  EXPECT_EQ(parsed(std::string(kModel) + "n_ubatch = 64").models[0].options.n_ubatch, 64);
  EXPECT_THAT(model_error("n_batch = 256\nn_ubatch = 257").message,
              HasSubstr("yoke.toml:4: 'n_ubatch' in [models.smollm2]: 257 is more than n_batch"));
}

TEST(ParseConfig, NamesTheLineAndTheNearestKey) {
  const Error error = model_error("# a comment\nn_ctxx = 1");
  EXPECT_EQ(error.code, kConfigInvalid);
  EXPECT_EQ(error.text(),
            "yoke.toml:4: unknown key 'n_ctxx' in [models.smollm2]. Did you mean 'n_ctx'?");
  EXPECT_EQ(error_of("[sever]").text(), "yoke.toml:1: unknown key 'sever'. Did you mean 'server'?");
  EXPECT_THAT(error_of("[engines]\nzebra = 1").text(),
              HasSubstr("yoke.toml:2: unknown key 'zebra' in [engines]. The keys are "
                        "'llama_server', 'llama_server_vulkan'"));
}

TEST(ParseConfig, SaysThatAModelNameWithADotNeedsQuotes) {
  const auto config = parse_config("[models.qwen2.5]\nmodel_path = \"q\"\n", "yoke.toml");
  ASSERT_FALSE(config);
  EXPECT_THAT(config.error().message,
              HasSubstr("A name with a dot needs quotes: [models.\"qwen2.5\"]."));
}

TEST(ParseConfig, ReportsAllMistakesOfAFile) {
  const Error error = error_of("[server]\nthreads = -1\nlog_level = \"loud\"\n[engine]");
  EXPECT_EQ(error.text(),
            "yoke.toml:2: 'threads' in [server]: -1 is not between 0 and 1024.\n"
            "yoke.toml:3: 'log_level' in [server]: 'loud' is not one of 'debug', 'info', "
            "'warning', 'error'.\n"
            "yoke.toml:4: unknown key 'engine'. Did you mean 'engines'?");
}

// Everything that only some models need.
TEST(ParseConfig, ReadsWhatSpecialModelsNeed) {
  const Config config = parsed(
      "[server]\nmodel_dir = \"/models\"\nstate_dir = \"/var/lib/yoke\"\n"
      "[models.m]\nmodel_path = \"Qwen3-8B\"\n"
      "cache_type_k = \"q8_0\"\ncache_type_v = \"iq4_nl\"\nsplit_mode = \"row\"\n"
      "tensor_split = [3, 1.5, 0]\nmain_gpu = 1\nmmproj = \"mmproj.gguf\"\n"
      "draft_model = \"/other/draft.gguf\"\nlora = [\"a.gguf\", \"/b.gguf\"]\n"
      "chat_template = \"chatml\"\ngpu_memory_utilization = 0.85\nanswer_check = \"off\"\n");
  EXPECT_EQ(config.server.state_dir, "/var/lib/yoke");
  const LoadOptions& options = config.models[0].options;
  EXPECT_EQ(options.model_path, "/models/Qwen3-8B");
  EXPECT_EQ(options.cache_type_k, "q8_0");
  EXPECT_EQ(options.cache_type_v, "iq4_nl");
  EXPECT_EQ(options.split_mode, "row");
  EXPECT_THAT(options.tensor_split, testing::ElementsAre(3, 1.5, 0));
  EXPECT_EQ(options.main_gpu, 1);
  EXPECT_EQ(options.mmproj, "/models/mmproj.gguf");
  EXPECT_EQ(options.draft_model, "/other/draft.gguf");
  EXPECT_THAT(options.lora, testing::ElementsAre(fs::path("/models/a.gguf"), fs::path("/b.gguf")));
  EXPECT_EQ(options.chat_template, "chatml");
  EXPECT_EQ(options.gpu_memory_utilization, 0.85);
  EXPECT_EQ(options.answer_check, AnswerCheck::kOff);
}

TEST(ParseConfig, TellsTemplateFilesFromTemplateNames) {
  const auto read = [](const std::string& value) {
    return parsed("[server]\nmodel_dir = \"/models\"\n" + std::string(kModel) +
                  "\nchat_template = \"" + value + "\"")
        .models[0]
        .options.chat_template;
  };
  EXPECT_EQ(read("llama3"), "llama3");
  EXPECT_EQ(read("own.jinja"), "/models/own.jinja");
  EXPECT_EQ(read("templates/own"), "/models/templates/own");
  EXPECT_EQ(read("/etc/own.jinja"), "/etc/own.jinja");
}

TEST(ParseConfig, ReadsEnginesByBackend) {
  const auto config =
      parse_config(std::string("[engines]\nllama_server_rocm = \"hip/llama-server\"\n"
                               "llama_server_cuda = \"/opt/cuda/llama-server\"\n"
                               "vllm = \"venv/bin/vllm\"\nrocm_path = \"/opt/rocm-7.2\"\n") +
                       kModel,
                   "/etc/yoke/yoke.toml");
  ASSERT_TRUE(config) << config.error().text();
  const EnginesConfig& engines = config->engines;
  EXPECT_THAT(
      engines.llama_servers,
      testing::UnorderedElementsAre(testing::Pair("rocm", fs::path("/etc/yoke/hip/llama-server")),
                                    testing::Pair("cuda", fs::path("/opt/cuda/llama-server"))));
  EXPECT_EQ(engines.vllm, fs::path("/etc/yoke/venv/bin/vllm"));
  EXPECT_EQ(engines.rocm_path, fs::path("/opt/rocm-7.2"));
}

TEST(ParseConfig, RefusesTwoWaysToNameAnEngine) {
  EXPECT_THAT(
      error_of("[engines]\nllama_server = \"/a\"\nllama_server_rocm = \"/b\"").message,
      HasSubstr("yoke.toml:3: 'llama_server_rocm' in [engines]: llama_server is the only engine"));
}

TEST(ParseConfig, ReadsRpcServers) {
  const Config config = parsed(R"(
[engines]
rpc_client = "stock"
[models.split]
model_path = "m"
rpc_servers = ["desk-2=127.0.0.1:50052", "127.0.0.1:50053"]
rpc_timeout = "30s"
[models.pipelined]
model_path = "m"
rpc_servers = ["127.0.0.1:50054"]
rpc_client = "pipelined"
[models.by-hand]
model_path = "m"
extra_args = ["--rpc", "127.0.0.1:50055"]
[models.whole]
model_path = "m"
rpc_client = "stock"
)");
  ASSERT_EQ(config.models.size(), 4u);
  const LoadOptions& split = config.models[0].options;
  EXPECT_THAT(split.rpc_servers,
              testing::ElementsAre(RpcServer{"127.0.0.1:50052", "desk-2"},
                                   RpcServer{"127.0.0.1:50053", "127.0.0.1:50053"}));
  EXPECT_EQ(split.rpc_client, RpcClient::kStock);
  EXPECT_EQ(split.rpc_timeout, std::chrono::seconds(30));
  EXPECT_EQ(config.models[1].options.rpc_client, RpcClient::kPipelined);
  EXPECT_EQ(config.models[2].options.rpc_client, RpcClient::kStock);
  // It has none, so that the client is nothing to it.
  EXPECT_EQ(config.models[3].options.rpc_client, RpcClient::kPipelined);
  EXPECT_THAT(config.warnings, testing::IsEmpty());
}

TEST(ParseConfig, WarnsOfAnRpcServerForTwoModels) {
  const std::string models = R"(
[models.a]
model_path = "m"
rpc_servers = ["127.0.0.1:50052"]
group = "big"
[models.b]
model_path = "m"
rpc_servers = ["127.0.0.1:50052"]
group = "big"
)";
  EXPECT_THAT(parsed("[groups.big]" + models).warnings,
              testing::ElementsAre(HasSubstr("The models a and b name the same RPC server")));
  EXPECT_THAT(parsed("[groups.big]\none_at_a_time = true" + models).warnings, testing::IsEmpty());
}

TEST(ParseConfig, RefusesAQuantizedVWithoutFlashAttention) {
  const std::string text = std::string(kModel) + "\nflash_attn = \"off\"\ncache_type_v = ";
  const auto refused = parse_config(text + "\"q8_0\"", "yoke.toml");
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message,
              HasSubstr("yoke.toml:5: 'cache_type_v' in [models.smollm2]: 'q8_0' needs flash"));
  EXPECT_TRUE(parse_config(text + "\"f16\"", "yoke.toml"));
}

using Mistake = std::pair<std::string, std::string>;  // A line, and what is said about it.

class ModelMistake : public testing::TestWithParam<Mistake> {};

TEST_P(ModelMistake, IsNamedWithItsLine) {
  const Error error = model_error(GetParam().first);
  EXPECT_EQ(error.code, kConfigInvalid);
  EXPECT_THAT(error.message, HasSubstr("yoke.toml:3"));
  EXPECT_THAT(error.message, HasSubstr(GetParam().second));
}

INSTANTIATE_TEST_SUITE_P(
    All, ModelMistake,
    testing::Values(
        Mistake{"n_ctx = \"8k\"", "expected an integer, found a string."},
        Mistake{"n_ctx = 1.5", "expected an integer, found a number with a fraction."},
        Mistake{"n_ctx = -1", "-1 is not between 0 and"},
        Mistake{"n_batch = -1", "-1 is not between 0 and"},
        Mistake{"backends = [\"metal\"]", "'metal' is none of vulkan, rocm, cuda, cpu"},
        Mistake{"n_ctx = 99999999999", "is not between"},
        Mistake{"cache_type_k = \"q3_k\"", "'q3_k' is not one of 'f32', 'f16', 'bf16', 'q8_0'"},
        Mistake{"cache_type_v = 8", "expected a string, found an integer."},
        Mistake{"split_mode = \"rows\"", "'rows' is not one of 'none', 'layer', 'row'"},
        Mistake{"tensor_split = 3", "expected an array of numbers, found an integer."},
        Mistake{"tensor_split = [1, \"2\"]", "expected an array of numbers, found a string."},
        Mistake{"tensor_split = [1, -2]", "-2 is no number from 0 on."},
        Mistake{"tensor_split = [1, inf]", "inf is no number from 0 on."},
        Mistake{"tensor_split = [1, nan]", "nan is no number from 0 on."},
        Mistake{"tensor_split = [0, 0.0]", "one share at least has to be more than 0."},
        Mistake{"tensor_split = []", "one share at least has to be more than 0."},
        Mistake{"main_gpu = -2", "-2 is not between -1 and 127."},
        Mistake{"mmproj = \"\"", "expected a path."},
        Mistake{"draft_model = true", "expected a string, found true or false."},
        Mistake{"lora = \"a.gguf\"", "expected an array of strings, found a string."},
        Mistake{"lora = [\"a.gguf\", \"\"]", "expected a path."},
        Mistake{"chat_template = \"\"", "expected a template's name"},
        Mistake{"gpu_memory_utilization = 1.1", "1.1 is not between 0 and 1."},
        Mistake{"gpu_memory_utilization = nan", "nan is not between 0 and 1."},
        Mistake{"gpu_memory_utilization = \"90%\"", "expected a number, found a string."},
        Mistake{"answer_check = \"yes\"", "'yes' is not one of 'auto', 'on', 'off'."},
        Mistake{"mlock = 1", "expected true or false, found an integer."},
        Mistake{"flash_attn = true", "expected a string, found true or false."},
        Mistake{"flash_attn = \"yes\"", "'yes' is not one of 'auto', 'on', 'off'."},
        Mistake{"server_type = \"chat\"", "is not one of 'llm', 'embedding', 'rerank'."},
        Mistake{"pooling = \"avg\"", "'avg' is not one of"},
        Mistake{"extra_args = \"--x\"", "expected an array of strings, found a string."},
        Mistake{"extra_args = [\"-x\", 1]", "expected an array of strings, found an integer."},
        Mistake{"extra_args = [\"--host\", \"0.0.0.0\"]", "must not contain '--host'"},
        Mistake{"preload = \"yes\"", "expected true or false, found a string."},
        Mistake{"pinned = 1", "expected true or false, found an integer."},
        Mistake{"priority = 1001", "1001 is not between -1000 and 1000."},
        Mistake{"priority = \"high\"", "expected an integer, found a string."},
        Mistake{"group = \"a\"", "there is no group 'a'. Add a table [groups.a]."},
        Mistake{"group = \"a b\"", "Add a table [groups.\"a b\"]."},
        Mistake{"group = true", "expected a string, found true or false."},
        Mistake{"unload_after = 60", "expected a string, found an integer."},
        Mistake{"unload_after = \"later\"", "'later' is no duration"},
        Mistake{"max_waiting = 0", "0 is not between 1 and 1000000."},
        Mistake{"cache_ram = \"much\"", "'much' is no size"},
        Mistake{"cache_ram = true", "expected a string, found true or false."},
        Mistake{"cache_ram = \"2000TiB\"", "is not between"},
        Mistake{"rpc_servers = \"127.0.0.1:50052\"",
                "expected an array of strings, found a string."},
        Mistake{"rpc_servers = [\"desk-2:50052\"]", "ssh -N -L 50052:127.0.0.1:50052 desk-2"},
        Mistake{"rpc_servers = [\"127.0.0.1\"]", "is no address of an RPC server."},
        Mistake{"rpc_client = \"fast\"", "'fast' is not one of 'pipelined', 'stock'."},
        Mistake{"rpc_timeout = \"10ms\"", "'rpc_timeout'"},
        Mistake{"rpc_timeout = \"25h\"", "more than 24h."},
        Mistake{"rpc_timeout = 2", "expected a string, found an integer."},
        Mistake{"rpc_servers = [\"127.0.0.1:1\"]\nextra_args = [\"--rpc\", \"127.0.0.1:2\"]",
                "extra_args has --rpc too; take out one of them."},
        Mistake{"n_ctx = ", "Error while parsing"}, Mistake{"n_ctx = 1 2", "Error while parsing"},
        Mistake{"[models.smollm2]", "redefine"}));

TEST(ParseConfig, RefusesDuplicatesAndSyntaxErrorsWithLineAndColumn) {
  EXPECT_THAT(error_of("[server]\nthreads = 1\nthreads = 2").message,
              testing::MatchesRegex("yoke.toml:3:[0-9]+: .*threads.*"));
  EXPECT_THAT(error_of("[server").message, testing::MatchesRegex("yoke.toml:1:[0-9]+: .+"));
}

TEST(ParseConfig, RefusesBadServerValues) {
  EXPECT_THAT(error_of("[server]\nlisten = \"8642\"").message,
              HasSubstr("yoke.toml:2: 'listen' in [server]: '8642' is no address"));
  EXPECT_THAT(error_of("[server]\nmax_request_size = \"big\"").message, HasSubstr("is no size"));
  EXPECT_THAT(error_of("[server]\nmax_request_size = \"1B\"").message, HasSubstr("is not between"));
  EXPECT_THAT(error_of("[server]\nidle_timeout = \"soon\"").message, HasSubstr("is no duration"));
  EXPECT_THAT(error_of("[server]\nidle_timeout = \"0s\"").message, HasSubstr("too short"));
  EXPECT_THAT(error_of("[server]\nidle_timeout = 30").message, HasSubstr("expected a string"));
  EXPECT_THAT(error_of("[server]\nallowed_origins = [\"example.org\"]").message,
              HasSubstr("'example.org' is no origin"));
  EXPECT_THAT(error_of("server = 1").message, HasSubstr("expected a table, found an integer"));
}

TEST(ParseConfig, RefusesToListenBeyondLoopbackWithoutAKey) {
  for (const char* listen : {"0.0.0.0:8642", "[::]:8642", "192.168.1.5:80"}) {
    const Error error = error_of(std::string("[server]\nlisten = \"") + listen + "\"");
    EXPECT_EQ(error.code, kApiKeyRequired) << listen;
    EXPECT_THAT(error.message, HasSubstr("yoke.toml:2: "));
    EXPECT_THAT(error.message, HasSubstr("Add api_key to [server]"));
  }
  EXPECT_EQ(parsed(std::string("[server]\nlisten = \"[::1]:1\"\n") + kModel).server.host, "::1");
}

TEST(ParseConfig, MixedMistakesAreConfigInvalid) {
  EXPECT_EQ(error_of("[server]\nlisten = \"0.0.0.0:1\"\nthreads = -1").code, kConfigInvalid);
}

TEST(CheckExposure, HoldsForAChangedAddress) {
  ServerConfig server;
  EXPECT_TRUE(check_exposure(server));
  server.host = "0.0.0.0";
  EXPECT_EQ(check_exposure(server).error().code, kApiKeyRequired);
  server.api_key = kSecret;
  EXPECT_TRUE(check_exposure(server));
}

TEST(ParseConfig, RefusesWeakKeys) {
  EXPECT_THAT(error_of("[server]\napi_key = \"short\"").message, HasSubstr("too short"));
  EXPECT_THAT(error_of("[server]\napi_key = \"\"").message, HasSubstr("too short"));
  EXPECT_THAT(error_of("[server]\napi_key = \"a key with spaces in it\"").message,
              HasSubstr("no spaces"));
}

TEST(ParseConfig, NeverRepeatsTheKey) {
  const std::vector<std::string> files{
      "[server]\napi_key = \"hunter2\"",
      "[server]\napi_key = \"hunter2 hunter2 hunter2\"",
      "[server]\napi_key = hunter2",
      "[server]\napi_key = 'hunter2",
      "[server]\napi_key = \"hunter2hunter2hunter2\"\napi_key = \"hunter2\"",
      "[server]\napi_key = [\"hunter2\"]",
      "[server]\napi_key = \"hunter2hunter2hunter2\"\nbad = 1",
      "[server]\napi_key = \"hunter2hunter2hunter2\"\napi_key_file = \"/dev/null\""};
  for (const std::string& text : files)
    EXPECT_THAT(error_of(text).text(), Not(HasSubstr("hunter2")));
  // toml++ repeats a number that is too large for it.
  EXPECT_THAT(error_of("[server]\napi_key = 123456789012345678901234").text(),
              Not(HasSubstr("123456")));
}

TEST(ParseConfig, ReadsAKeyFromAFileBesideTheConfig) {
  const ScratchDir dir;
  dir.write("key", std::string(kSecret) + "\n");
  dir.write("open-key", kSecret, 0644);
  dir.write("short-key", "hunter2");
  const auto with = [&](const std::string& name) {
    return parse_config("[server]\napi_key_file = \"" + name + "\"\n" + kModel,
                        dir.path() / "yoke.toml");
  };
  EXPECT_EQ(with("key").value().server.api_key, kSecret);
  EXPECT_TRUE(with("key").value().warnings.empty());
  const Config open = with("open-key").value();
  ASSERT_EQ(open.warnings.size(), 1u);
  EXPECT_THAT(open.warnings[0], HasSubstr("chmod 600"));
  EXPECT_THAT(with("short-key").error().message, HasSubstr("too short"));
  EXPECT_THAT(with("short-key").error().message, Not(HasSubstr("hunter2")));
  EXPECT_THAT(with("absent").error().message, HasSubstr("can't be read"));
}

TEST(ParseConfig, RefusesAFileWithoutModels) {
  const auto config = parse_config("[server]\n", "yoke.toml");
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().code, kConfigInvalid);
  EXPECT_THAT(config.error().message, HasSubstr("yoke.toml: no model is configured. Add one:"));
}

TEST(ParseConfig, RefusesBadModelTables) {
  EXPECT_THAT(error_of("[models.a]\nn_ctx = 1").message,
              HasSubstr("yoke.toml:1: 'model_path' in [models.a]: is missing."));
  EXPECT_THAT(error_of("[models.a]\nmodel_path = \"\"").message, HasSubstr("expected a path."));
  EXPECT_THAT(error_of("[models.a]\nmodel_path = 1").message, Not(HasSubstr("is missing")));
  EXPECT_THAT(error_of("[models.\"a b\"]\nmodel_path = \"x\"").message,
              HasSubstr("'a b' is no name for a model."));
  EXPECT_THAT(error_of("models.a = 3\nmodels.b = 4").message, HasSubstr("yoke.toml:2: 'b' in"));
}

TEST(ParseConfig, TakesAModelFromTheCatalogue) {
  const Config config = parsed("[models.m]\nmodel = \"org/Qwen3-8B-GGUF:Q4_K_M\"\nn_ctx = 512\n");
  EXPECT_EQ(config.models[0].catalogue_name, "org/Qwen3-8B-GGUF:Q4_K_M");
  EXPECT_TRUE(config.models[0].options.model_path.empty());
  EXPECT_EQ(config.models[0].options.n_ctx, 512);
  EXPECT_THAT(error_of("[models.m]\nmodel = \"a\"\nmodel_path = \"b\"").message,
              HasSubstr("yoke.toml:2: 'model' in [models.m]: model_path says already"));
  EXPECT_THAT(error_of("[models.m]\nmodel = \"a b\"").message, HasSubstr("`yoke list`"));
  EXPECT_THAT(error_of("[models.m]\nmodel = 3").message, Not(HasSubstr("is missing")));
}

TEST(ParseConfig, ModelsAreUnloadedAsMemorySays) {
  const Config config = parsed(
      "[models.a]\nmodel_path = \"/a\"\n[models.b]\nmodel_path = \"/b\"\nunload_after = \"0s\"\n"
      "[memory]\nunload_after = \"1h\"\n");
  EXPECT_EQ(config.models[0].residence.unload_after, std::chrono::hours(1));
  EXPECT_EQ(config.models[1].residence.unload_after, milliseconds(0));
}

TEST(ParseConfig, RefusesBadMemoryAndContexts) {
  EXPECT_THAT(error_of("[memory]\nhost = \"1KiB\"").message,
              HasSubstr("yoke.toml:2: 'host' in [memory]: '1KiB' is not between"));
  EXPECT_THAT(error_of("[memory]\nhost = \"1GiB\"\ngpu = \"all\"").message,
              HasSubstr("yoke.toml:3: 'gpu' in [memory]: 'all' is no size"));
  EXPECT_THAT(error_of("[memory]\nhost = 64").message, HasSubstr("is not between"));
  EXPECT_THAT(error_of("[memory]\nunload_after = \"-1s\"").message, HasSubstr("is no duration"));
  EXPECT_THAT(error_of("[memory]\ngpus = \"1GiB\"").message, HasSubstr("Did you mean 'gpu'?"));
  EXPECT_THAT(error_of("[contexts]\nmax_size = true").message,
              HasSubstr("yoke.toml:2: 'max_size' in [contexts]: expected a string"));
  EXPECT_THAT(error_of("[contexts]\nsave_afer = \"1m\"").message,
              HasSubstr("Did you mean 'save_after'?"));
  EXPECT_THAT(error_of("memory = 1").message, HasSubstr("expected a table, found an integer"));
}

TEST(ParseConfig, ChecksTheNamesOfGroups) {
  EXPECT_THAT(
      error_of("[groups.chat]\n[models.a]\nmodel_path = \"/a\"\ngroup = \"caht\"").message,
      HasSubstr("yoke.toml:4: 'group' in [models.a]: there is no group 'caht'. Did you mean "
                "'chat'?"));
  EXPECT_THAT(error_of("[groups.a]\nnot_with = [\"large\", \"larg\"]\n[groups.large]").message,
              HasSubstr("yoke.toml:2: 'not_with' in [groups.a]: there is no group 'larg'. Did you "
                        "mean 'large'?"));
  EXPECT_THAT(error_of("[groups.a]\nnot_with = [\"a\"]").message,
              HasSubstr("that is the group itself. Write one_at_a_time = true."));
  EXPECT_THAT(error_of("[groups.a]\none_at_a_time = 1").message,
              HasSubstr("expected true or false"));
  EXPECT_THAT(error_of("[groups.a]\nnot_with = \"a\"").message, HasSubstr("an array of strings"));
  EXPECT_THAT(error_of("[groups.a]\nnotwith = []").message, HasSubstr("Did you mean 'not_with'?"));
  EXPECT_THAT(error_of("[groups.\"a b\"]").message,
              HasSubstr("yoke.toml:1: 'a b' is no name for a group."));
  EXPECT_THAT(error_of("[groups.a.b]").message, HasSubstr("[groups.\"a.b\"]"));
}

TEST(IsModelName, TakesTheUsualForms) {
  for (const char* name : {"a", "smollm2", "qwen2.5:7b", "org/model-1_x", "llama@main", "9b+"}) {
    EXPECT_TRUE(is_model_name(name)) << name;
  }
  for (const std::string& name :
       {std::string(), std::string("-a"), std::string("a b"), std::string("a,b"),
        std::string("\xc3\xa9"), std::string("../a"), std::string(129, 'a'), std::string("a\n")}) {
    EXPECT_FALSE(is_model_name(name)) << name;
  }
}

TEST(LoadConfig, ReadsAFile) {
  const ScratchDir dir;
  const Config config = load_config(dir.write("yoke.toml", kModel, 0644)).value();
  EXPECT_EQ(config.file, dir.path() / "yoke.toml");
  EXPECT_TRUE(config.warnings.empty());
}

TEST(LoadConfig, WarnsWhenOthersCanReadTheKey) {
  const ScratchDir dir;
  const std::string text = std::string("[server]\napi_key = \"") + kSecret + "\"\n" + kModel;
  EXPECT_TRUE(load_config(dir.write("private.toml", text, 0600)).value().warnings.empty());
  const auto warnings = load_config(dir.write("open.toml", text, 0644)).value().warnings;
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_THAT(warnings[0], Not(HasSubstr(kSecret)));
}

TEST(LoadConfig, SaysWhatToDoAboutAMissingFile) {
  const ScratchDir dir;
  const auto missing = load_config(dir.path() / "none.toml");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, kConfigNotFound);
  EXPECT_THAT(missing.error().text(), HasSubstr("none.toml"));
  EXPECT_THAT(missing.error().hint, HasSubstr("--config"));
  EXPECT_EQ(load_config(dir.path()).error().code, kConfigNotFound);
}

TEST(LoadConfig, RefusesWhatIsTooLongOrNoText) {
  const ScratchDir dir;
  EXPECT_EQ(load_config(dir.write("long.toml", std::string((1u << 20) + 1, '#'))).error().code,
            kConfigInvalid);
  EXPECT_EQ(load_config(dir.write("binary.toml", std::string("\x7f"
                                                             "ELF\0\xff",
                                                             6)))
                .error()
                .code,
            kConfigInvalid);
}

// The examples that are shipped have to work.
fs::path example(const char* name) {
  return fs::path(__FILE__).parent_path() / "../../examples" / name;
}

TEST(Examples, AreValid) {
  const auto starter = load_config(example("starter.toml"));
  ASSERT_TRUE(starter) << starter.error().text();
  ASSERT_EQ(starter->models.size(), 1u);
  EXPECT_EQ(starter->models[0].name, "smollm2");
  const auto full = load_config(example("yoke.toml"));
  ASSERT_TRUE(full) << full.error().text();
}

// "# key = value" and "# [table]" without the mark; other lines, and those about keys, as they are.
std::string uncommented(const std::string& line) {
  if (!line.starts_with("# ") || line.find("api_key") != std::string::npos) return line;
  const std::string rest = line.substr(2);
  const std::size_t word_end = rest.find_first_not_of("abcdefghijklmnopqrstuvwxyz_");
  const bool key = word_end != std::string::npos && rest.substr(word_end, 3) == " = ";
  const bool table = rest.starts_with("[models.\"m") || rest.starts_with("[groups.");
  return key || table ? rest : line;
}

// The keys that are commented out exist, and those with a default show it.
TEST(Examples, ShowEveryKeyAsItIs) {
  std::ifstream in(example("yoke.toml"));
  std::string text;
  for (std::string line; std::getline(in, line);) text += uncommented(line) + "\n";
  for (const char* key : {"listen",
                          "allowed_origins",
                          "max_request_size",
                          "start_timeout",
                          "first_byte_timeout",
                          "idle_timeout",
                          "hang_timeout",
                          "threads",
                          "model_dir",
                          "log_level",
                          "state_dir",
                          "llama_server",
                          "llama_server_rocm",
                          "llama_server_vulkan",
                          "llama_server_cuda",
                          "llama_server_cpu",
                          "vllm",
                          "rocm_path",
                          "software_devices",
                          "backends",
                          "model",
                          "model_path",
                          "server_type",
                          "n_ctx",
                          "n_batch",
                          "n_ubatch",
                          "n_gpu_layers",
                          "parallel",
                          "flash_attn",
                          "fit_memory",
                          "mlock",
                          "cont_batching",
                          "jinja",
                          "reasoning_format",
                          "pooling",
                          "cache_type_k",
                          "cache_type_v",
                          "split_mode",
                          "tensor_split",
                          "main_gpu",
                          "mmproj",
                          "draft_model",
                          "lora",
                          "chat_template",
                          "gpu_memory_utilization",
                          "answer_check",
                          "host",
                          "gpu",
                          "unload_after",
                          "max_size",
                          "save_after",
                          "one_at_a_time",
                          "not_with",
                          "preload",
                          "pinned",
                          "priority",
                          "group",
                          "max_waiting",
                          "rpc_servers",
                          "rpc_client",
                          "rpc_timeout",
                          "cache_ram",
                          "extra_args"}) {
    EXPECT_THAT(text, HasSubstr(std::string("\n") + key + " = "));
  }
  // Others are not together with them.
  for (const char* key : {"\nllama_server = ", "\nmodel = "}) {
    const std::size_t own = text.find(key);
    text.erase(own, text.find('\n', own + 1) - own);
  }
  const Config shown = parsed(text);
  const ServerConfig server;
  EXPECT_EQ(shown.server.host, server.host);
  EXPECT_EQ(shown.server.port, server.port);
  EXPECT_EQ(shown.server.max_request_bytes, server.max_request_bytes);
  EXPECT_EQ(shown.server.start_timeout, server.start_timeout);
  EXPECT_EQ(shown.server.first_byte_timeout, server.first_byte_timeout);
  EXPECT_EQ(shown.server.idle_timeout, server.idle_timeout);
  EXPECT_EQ(shown.server.hang_timeout, server.hang_timeout);
  EXPECT_EQ(shown.engines.software_devices, EnginesConfig{}.software_devices);
  EXPECT_EQ(shown.server.threads, server.threads);
  EXPECT_EQ(shown.server.log_level, server.log_level);
  EXPECT_EQ(shown.contexts, ContextsConfig{});
  EXPECT_EQ(shown.groups.size(), 2u);
  ASSERT_EQ(shown.models.size(), 2u);
  EXPECT_EQ(shown.models[1].residence, ResidenceConfig{});
  ResidenceConfig residence = shown.models[0].residence;
  EXPECT_EQ(residence.group, "chat");
  residence.group.clear();
  EXPECT_EQ(residence, ResidenceConfig{});
  const LoadOptions defaults;
  const LoadOptions& options = shown.models[0].options;
  EXPECT_EQ(options.server_type, defaults.server_type);
  EXPECT_EQ(options.n_ctx, defaults.n_ctx);
  EXPECT_EQ(options.n_batch, defaults.n_batch);
  EXPECT_EQ(options.n_ubatch, defaults.n_ubatch);
  EXPECT_EQ(options.n_gpu_layers, defaults.n_gpu_layers);
  EXPECT_EQ(options.threads, defaults.threads);
  EXPECT_EQ(options.parallel, defaults.parallel);
  EXPECT_EQ(options.flash_attn, defaults.flash_attn);
  EXPECT_EQ(options.fit_memory, defaults.fit_memory);
  EXPECT_EQ(options.mlock, defaults.mlock);
  EXPECT_EQ(options.cont_batching, defaults.cont_batching);
  EXPECT_EQ(options.jinja, defaults.jinja);
  EXPECT_EQ(options.split_mode, "layer");
  EXPECT_EQ(options.main_gpu, defaults.main_gpu);
  EXPECT_EQ(options.cache_type_k, "f16");
  EXPECT_EQ(options.cache_type_v, "f16");
  EXPECT_EQ(options.answer_check, defaults.answer_check);
  EXPECT_EQ(options.rpc_client, defaults.rpc_client);
  EXPECT_EQ(options.rpc_timeout, defaults.rpc_timeout);
  EXPECT_EQ(options.rpc_servers.size(), 2u);
}

}  // namespace
}  // namespace yoke::config
