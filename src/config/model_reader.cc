#include "config/model_reader.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/nearest.h"

namespace yoke::config {
namespace {

using std::chrono::milliseconds;

constexpr int kMaxContext = 1 << 24;
constexpr int kMaxBatch = 1 << 20;
constexpr int kMaxGpus = 128;
constexpr int kMaxPriority = 1000;
constexpr int kMaxWaiting = 1'000'000;
constexpr auto kLeastRpcTimeout = milliseconds(1000);
constexpr milliseconds kLongestRpcTimeout = std::chrono::hours(24);

constexpr std::array<std::pair<std::string_view, ServerType>, 3> kServerTypes{
    {{"llm", ServerType::kLlm},
     {"embedding", ServerType::kEmbedding},
     {"rerank", ServerType::kRerank}}};
constexpr std::array<std::pair<std::string_view, FlashAttention>, 3> kFlashAttention{
    {{"auto", FlashAttention::kAuto}, {"on", FlashAttention::kOn}, {"off", FlashAttention::kOff}}};
constexpr std::array<std::pair<std::string_view, AnswerCheck>, 3> kAnswerChecks{
    {{"auto", AnswerCheck::kAuto}, {"on", AnswerCheck::kOn}, {"off", AnswerCheck::kOff}}};
constexpr std::array<std::string_view, 4> kReasoningFormats{"auto", "none", "deepseek",
                                                            "deepseek-legacy"};
// Those of llama.cpp's KV cache.
constexpr std::array<std::string_view, 9> kCacheTypes{"f32",  "f16",    "bf16", "q8_0", "q4_0",
                                                      "q4_1", "iq4_nl", "q5_0", "q5_1"};
constexpr std::array<std::string_view, 4> kSplitModes{"none", "layer", "row", "tensor"};
constexpr std::array<std::string_view, 5> kPoolings{"none", "mean", "cls", "last", "rank"};

// Built-in templates have plain names: "chatml".
bool is_template_file(std::string_view text) {
  return text.find('/') != std::string_view::npos || text.ends_with(".jinja");
}

class ModelReader {
 public:
  ModelReader(TomlTable& table, const ModelDefaults& defaults)
      : table_(table), defaults_(defaults) {
    model_.residence.unload_after = defaults.unload_after;
  }

  ModelConfig read(std::string name) {
    model_.name = std::move(name);
    model_.line = table_.line();
    read_place();
    read_residence();
    table_.read("server_type", options().server_type, kServerTypes);
    read_sizes();
    read_backends();
    read_devices();
    read_memory();
    read_chat();
    read_companions();
    table_.read_one_of("pooling", options().pooling, kPoolings);
    table_.read("answer_check", options().answer_check, kAnswerChecks);
    read_extra_args();
    read_rpc();
    table_.reject_unknown();
    return std::move(model_);
  }

 private:
  LoadOptions& options() { return model_.options; }

  void read_place() {
    const bool has_path = read_file("model_path", options().model_path);
    std::string& name = model_.catalogue_name;
    if (table_.read("model", name)) {
      if (table_.has("model_path")) {
        table_.refuse("model", "model_path says already which model it is; take out one of them.");
      } else if (!is_model_name(name)) {
        table_.refuse("model", "expected the name of a model that `yoke list` shows.");
      }
    } else if (!has_path && !table_.has("model_path") && !table_.has("model")) {
      table_.refuse("model_path",
                    "is missing. Name the model's GGUF file, or the directory of a model in "
                    "HuggingFace's format; or with `model` one that `yoke list` shows.");
    }
  }

  // A path that starts at model_dir.
  bool read_file(std::string_view key, std::filesystem::path& into) const {
    if (!table_.read(key, into)) return false;
    into = defaults_.model_dir / into;
    return true;
  }

  void read_residence() {
    ResidenceConfig& residence = model_.residence;
    table_.read("preload", residence.preload);
    table_.read("pinned", residence.pinned);
    table_.read("priority", residence.priority, -kMaxPriority, kMaxPriority);
    table_.read("unload_after", residence.unload_after, milliseconds(0));
    table_.read("max_waiting", residence.max_waiting, 1, kMaxWaiting);
    if (!table_.read("group", residence.group)) return;
    const std::string problem = problem_of_group(residence.group, defaults_.groups);
    if (!problem.empty()) table_.refuse("group", problem);
  }

  void read_sizes() {
    table_.read("n_ctx", options().n_ctx, 0, kMaxContext);
    table_.read("n_batch", options().n_batch, 0, kMaxBatch);
    read_ubatch();
    table_.read("n_gpu_layers", options().n_gpu_layers, -1, 10000);
    table_.read("threads", options().threads, 0, 4096);
    table_.read("parallel", options().parallel, 0, 1024);
  }

  void read_ubatch() {
    table_.read("n_ubatch", options().n_ubatch, 0, kMaxBatch);
    if (options().n_batch > 0 && options().n_ubatch > options().n_batch) {
      table_.refuse("n_ubatch", fmt::format("{} is more than n_batch, which is {}.",
                                            options().n_ubatch, options().n_batch));
    }
  }

  void read_backends() {
    if (!table_.read("backends", options().backends)) return;
    for (const std::string& backend : options().backends) {
      if (std::ranges::find(kBackends, backend) == kBackends.end()) {
        table_.refuse("backends",
                      fmt::format("'{}' is none of {}.", backend, fmt::join(kBackends, ", ")));
      }
    }
  }

  void read_devices() {
    table_.read_one_of("split_mode", options().split_mode, kSplitModes);
    table_.read("main_gpu", options().main_gpu, -1, kMaxGpus - 1);
    if (!table_.read("tensor_split", options().tensor_split)) return;
    const auto is_share = [](double share) { return share > 0; };
    if (options().tensor_split.size() > kMaxGpus) {
      table_.refuse("tensor_split", fmt::format("more than {} shares.", kMaxGpus));
    } else if (std::ranges::none_of(options().tensor_split, is_share)) {
      table_.refuse("tensor_split", "one share at least has to be more than 0.");
    }
  }

  void read_memory() {
    table_.read("flash_attn", options().flash_attn, kFlashAttention);
    table_.read_one_of("cache_type_k", options().cache_type_k, kCacheTypes);
    table_.read_one_of("cache_type_v", options().cache_type_v, kCacheTypes);
    if (options().flash_attn == FlashAttention::kOff && is_quantized(options().cache_type_v)) {
      table_.refuse("cache_type_v",
                    fmt::format("'{}' needs flash attention, and flash_attn is \"off\". Set it to "
                                "\"auto\", or this to \"f16\".",
                                options().cache_type_v));
    }
    table_.read("fit_memory", options().fit_memory);
    table_.read("mlock", options().mlock);
    std::uint64_t cache_ram = 0;
    if (table_.read_size("cache_ram", cache_ram, 0, kMaxMemory)) options().cache_ram = cache_ram;
    table_.read("gpu_memory_utilization", options().gpu_memory_utilization, 0, 1);
  }

  void read_chat() {
    table_.read("cont_batching", options().cont_batching);
    table_.read("jinja", options().jinja);
    table_.read_one_of("reasoning_format", options().reasoning_format, kReasoningFormats);
    std::string& chat_template = options().chat_template;
    if (!table_.read("chat_template", chat_template)) return;
    if (chat_template.empty()) {
      table_.refuse("chat_template", "expected a template's name, or the path of a Jinja file.");
    } else if (is_template_file(chat_template)) {
      chat_template = (defaults_.model_dir / expand_home(chat_template)).string();
    }
  }

  void read_companions() {
    read_file("mmproj", options().mmproj);
    read_file("draft_model", options().draft_model);
    if (!table_.read("lora", options().lora)) return;
    for (std::filesystem::path& file : options().lora) file = defaults_.model_dir / file;
  }

  void read_extra_args() {
    if (!table_.read("extra_args", options().extra_args)) return;
    if (const auto checked = check_extra_args(options().extra_args); !checked) {
      table_.refuse("extra_args", checked.error().text());
    }
  }

  // After extra_args, which may name RPC servers too.
  void read_rpc() {
    std::vector<std::string> servers;
    const bool in_arguments = uses_rpc(options());
    if (table_.read("rpc_servers", servers)) {
      auto parsed = parse_rpc_servers(servers);
      if (!parsed) {
        table_.refuse("rpc_servers", parsed.error().text());
      } else if (in_arguments) {
        table_.refuse("rpc_servers", "extra_args has --rpc too; take out one of them.");
      } else {
        options().rpc_servers = std::move(*parsed);
      }
    }
    RpcClient client = defaults_.rpc_client;
    table_.read("rpc_client", client, kRpcClients);
    table_.read("rpc_timeout", options().rpc_timeout, kLeastRpcTimeout);
    if (options().rpc_timeout > kLongestRpcTimeout) {
      table_.refuse("rpc_timeout", "more than 24h.");
    }
    // To other models it is nothing, so that a change of the default does not restart them.
    if (uses_rpc(options())) options().rpc_client = client;
  }

  TomlTable& table_;
  const ModelDefaults& defaults_;
  ModelConfig model_;
};

}  // namespace

ModelConfig read_model(std::string name, TomlTable& table, const ModelDefaults& defaults) {
  return ModelReader(table, defaults).read(std::move(name));
}

std::string problem_of_group(std::string_view name, std::span<const GroupConfig> groups) {
  std::vector<std::string_view> names;
  for (const GroupConfig& group : groups) names.push_back(group.name);
  if (std::ranges::find(names, name) != names.end()) return {};
  const auto known = nearest(name, names);
  return fmt::format("there is no group '{}'. {}", name,
                     known ? fmt::format("Did you mean '{}'?", *known)
                           : fmt::format("Add a table [groups.{}].", quoted_key(name)));
}

}  // namespace yoke::config
