#include "engines/llama_cpp.h"

#include <algorithm>
#include <initializer_list>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/units.h"
#include "engines/model_file.h"

namespace yoke::engines {
namespace {

using config::FlashAttention;
using config::LoadOptions;
using config::ServerType;

// More layers than any model has. Not every version knows the word "all".
constexpr int kAllLayers = 999;

// Adds to a command line what the engine knows, and notes what it doesn't.
class Builder {
 public:
  explicit Builder(const Capabilities& capabilities) : capabilities_(capabilities) {}

  // What the engine can't be used without.
  void require(std::string_view flag, std::string value) {
    if (!option(flag, std::move(value))) missing_.emplace_back(flag);
  }

  // The first of `spellings` that the engine has; false if it has none.
  bool flag(std::initializer_list<std::string_view> spellings) {
    for (std::string_view spelling : spellings) {
      if (!capabilities_.has(spelling)) continue;
      line_.argv.emplace_back(spelling);
      return true;
    }
    return false;
  }

  // A flag with a value; false if the engine has no such flag or it takes none.
  bool option(std::string_view flag, std::string value) {
    if (!capabilities_.takes_value(flag)) return false;
    line_.argv.emplace_back(flag);
    line_.argv.push_back(std::move(value));
    return true;
  }

  // An option of the user's: left out with a note.
  void wish(std::string_view name, bool added) {
    if (added) return;
    line_.notes.push_back(fmt::format("{} is left out: llama-server {} has no such option.", name,
                                      capabilities_.version));
  }

  // The user's value of an option by the first of `flags` that the engine has; nothing for an empty
  // one. Whether it was added.
  bool choice(std::string_view name, std::initializer_list<std::string_view> flags,
              const std::string& value) {
    if (value.empty()) return false;
    const bool added =
        std::ranges::any_of(flags, [&](std::string_view flag) { return option(flag, value); });
    wish(name, added);
    return added;
  }

  void note(std::string text) { line_.notes.push_back(std::move(text)); }
  CommandLine& line() { return line_; }
  const std::vector<std::string>& missing() const { return missing_; }
  const Capabilities& capabilities() const { return capabilities_; }

 private:
  const Capabilities& capabilities_;
  CommandLine line_;
  std::vector<std::string> missing_;
};

void add_endpoint(Builder& builder, std::string_view alias, std::uint16_t port) {
  builder.require("--host", "127.0.0.1");
  builder.require("--port", std::to_string(port));
  builder.option("--alias", std::string(alias));
  builder.flag({"--no-ui", "--no-webui"});
  builder.flag({"--offline"});
  builder.flag({"--slots"});
  builder.flag({"--metrics"});
  // Without a key it would let every web page in the user's browser talk to it.
  builder.option("--cors-origins", "localhost");
  builder.option("--log-colors", "off");
}

// Beside the CPU.
bool has_devices(const LoadOptions& options, std::string_view backend) {
  return backend != "cpu" || !options.rpc_servers.empty();
}

void add_sizes(Builder& builder, const LoadOptions& options, std::string_view backend) {
  builder.wish("n_ctx", builder.option("--ctx-size", std::to_string(options.n_ctx)));
  // 0: nothing was decided (decisions.h), so the engine does.
  if (options.n_batch > 0) {
    builder.wish("n_batch", builder.option("--batch-size", std::to_string(options.n_batch)));
  }
  if (options.n_ubatch > 0) {
    builder.wish("n_ubatch", builder.option("--ubatch-size", std::to_string(options.n_ubatch)));
  }
  if (has_devices(options, backend)) {
    const int layers = options.n_gpu_layers < 0 ? kAllLayers : options.n_gpu_layers;
    builder.wish("n_gpu_layers", builder.option("--n-gpu-layers", std::to_string(layers)));
  }
  if (options.threads > 0) {
    builder.wish("threads", builder.option("--threads", std::to_string(options.threads)));
  }
  if (options.parallel > 0) {
    builder.wish("parallel", builder.option("--parallel", std::to_string(options.parallel)));
  }
}

// Until August 2025 the flag had no value and switched it on.
void add_flash_attention(Builder& builder, FlashAttention mode) {
  constexpr std::string_view kFlag = "--flash-attn";
  if (builder.option(kFlag, std::string(name_of(mode)))) return;
  if (mode == FlashAttention::kOn) builder.wish("flash_attn", builder.flag({kFlag}));
}

void add_cache_types(Builder& builder, const LoadOptions& options) {
  builder.choice("cache_type_k", {"--cache-type-k"}, options.cache_type_k);
  builder.choice("cache_type_v", {"--cache-type-v"}, options.cache_type_v);
}

// How a model is spread over several GPUs.
void add_split(Builder& builder, const LoadOptions& options, std::string_view backend) {
  if (!has_devices(options, backend)) return;
  builder.choice("split_mode", {"--split-mode"}, options.split_mode);
  builder.choice("tensor_split", {"--tensor-split"},
                 fmt::format("{}", fmt::join(options.tensor_split, ",")));
  if (options.main_gpu >= 0) {
    builder.choice("main_gpu", {"--main-gpu"}, std::to_string(options.main_gpu));
  }
}

bool contains(const std::vector<std::string>& arguments, std::string_view flag) {
  return std::ranges::any_of(arguments, [flag](const std::string& argument) {
    return argument == flag || argument.starts_with(std::string(flag) + "=");
  });
}

// By itself the engine puts the RPC servers first. A copy from one of them to a GPU that comes
// after them blocks (ggml-backend.cpp: it asks the GPU's module), so a GPU of this machine goes
// before them. Of several it knows better which belong together.
void add_rpc_servers(Builder& builder, const LoadOptions& options) {
  if (options.rpc_servers.empty()) return;
  std::vector<std::string_view> endpoints;
  std::vector<std::string> devices = builder.capabilities().devices;
  for (const config::RpcServer& server : options.rpc_servers) {
    devices.push_back(fmt::format("RPC{}", endpoints.size()));
    endpoints.push_back(server.endpoint);
  }
  builder.require("--rpc", fmt::format("{}", fmt::join(endpoints, ",")));
  if (builder.capabilities().devices.size() == 1) {
    builder.option("--device", fmt::format("{}", fmt::join(devices, ",")));
  }
}

// Files besides the model.
void add_files(Builder& builder, const LoadOptions& options) {
  builder.choice("mmproj", {"--mmproj"}, options.mmproj.string());
  const bool drafts = builder.choice("draft_model", {"--spec-draft-model", "--model-draft", "-md"},
                                     options.draft_model.string());
  // Since 0.5 a draft model alone is loaded and not used.
  constexpr std::string_view kKind = "--spec-type";
  if (drafts && !contains(options.extra_args, kKind)) builder.option(kKind, "draft-simple");
  for (const auto& adapter : options.lora) builder.choice("lora", {"--lora"}, adapter.string());
}

// How the weights are loaded and locked. The CPU computes with them where the file is mapped, so
// that nothing is copied of what is in the page cache; a GPU's driver may not map a file.
bool add_load_mode(Builder& builder, std::string_view backend) {
  constexpr std::string_view kFlag = "--load-mode";
  constexpr std::string_view kMapped = "mmap+mlock";
  const bool mapped = backend == "cpu" && builder.capabilities().offers(kFlag, kMapped);
  return builder.option(kFlag, std::string(mapped ? kMapped : "mlock")) ||
         builder.flag({"--mlock"});
}

void add_memory(Builder& builder, const LoadOptions& options, std::string_view backend,
                std::optional<std::uint64_t> lock_limit) {
  // An engine that can't fit its options to the memory need not be told to leave it.
  const bool fit = builder.option("--fit", options.fit_memory ? "on" : "off");
  if (options.fit_memory) builder.wish("fit_memory", fit);

  // Yoke's module reads the mapped file itself.
  const bool pipelined = options.rpc_client == config::RpcClient::kPipelined;
  if (!options.rpc_servers.empty() && pipelined) builder.option("--load-mode", "mmap");

  if (!options.mlock) return;
  const std::uint64_t bytes = model_file_bytes(options.model_path);
  if (lock_limit && bytes > *lock_limit) {
    builder.note(fmt::format(
        "mlock is left out, so the model may be swapped: it has {} and the system lets Yoke lock "
        "{}. Raise the limit (`ulimit -l unlimited`, or LimitMEMLOCK=infinity in the systemd unit) "
        "or set mlock = false for this model.",
        format_bytes(bytes), format_bytes(*lock_limit)));
    return;
  }
  builder.wish("mlock", add_load_mode(builder, backend));
}

// Prompts that the engine keeps in host memory, and where it may save slots.
void add_caches(Builder& builder, const LoadOptions& options,
                const std::filesystem::path& slot_dir) {
  // No note for an engine without it: that keeps none.
  constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
  if (options.cache_ram) builder.option("--cache-ram", std::to_string(*options.cache_ram / kMiB));
  if (options.server_type == ServerType::kLlm && !slot_dir.empty()) {
    builder.option("--slot-save-path", slot_dir.string());
  }
}

// With --jinja the engine takes the name of a built-in template for the text of one, and would ask
// the model nothing but that name; it knows "chatml" alone. Without, it refuses unknown names.
void add_chat_template(Builder& builder, const LoadOptions& options) {
  const std::string& chosen = options.chat_template;
  const bool file = chosen.find('/') != std::string::npos;
  const bool built_in = !chosen.empty() && !file && chosen != "chatml";
  if (built_in && options.jinja) {
    builder.note(fmt::format(
        "jinja is left out: the built-in chat_template '{}' is none, and has no tool calls.",
        chosen));
  }
  const bool jinja = options.jinja && !built_in;
  builder.wish("jinja", builder.flag({jinja ? "--jinja" : "--no-jinja"}));
  builder.choice("chat_template", {file ? "--chat-template-file" : "--chat-template"}, chosen);
}

void add_mode(Builder& builder, const LoadOptions& options) {
  switch (options.server_type) {
    case ServerType::kLlm:
      add_chat_template(builder, options);
      builder.flag({options.cont_batching ? "--cont-batching" : "--no-cont-batching"});
      if (!options.reasoning_format.empty()) {
        builder.wish("reasoning_format",
                     builder.option("--reasoning-format", options.reasoning_format));
      }
      return;
    case ServerType::kEmbedding:
      builder.wish("server_type", builder.flag({"--embedding", "--embeddings"}));
      if (!options.pooling.empty()) {
        builder.wish("pooling", builder.option("--pooling", options.pooling));
      }
      return;
    case ServerType::kRerank:
      builder.wish("server_type", builder.flag({"--reranking", "--rerank"}));
      return;
  }
}

Result<void> check_cache_types(const LoadOptions& options) {
  const bool off = options.flash_attn == FlashAttention::kOff;
  if (!off || !config::is_quantized(options.cache_type_v)) return {};
  return fail(kInvalidArgument,
              fmt::format("cache_type_v = \"{}\" needs flash attention, and flash_attn is \"off\".",
                          options.cache_type_v),
              "Set flash_attn to \"auto\", or cache_type_v to \"f16\".");
}

}  // namespace

Result<CommandLine> llama_command_line(const EngineInstall& install,
                                       const Capabilities& capabilities, const LoadOptions& options,
                                       std::string_view alias, std::uint16_t port,
                                       std::optional<std::uint64_t> lock_limit,
                                       const std::filesystem::path& slot_dir) {
  YOKE_CHECK(config::check_extra_args(options.extra_args));
  YOKE_CHECK(check_cache_types(options));
  Builder builder(capabilities);
  builder.line().argv.push_back(install.server.string());
  builder.require("--model", options.model_path.string());
  add_endpoint(builder, alias, port);
  add_sizes(builder, options, install.backend);
  add_flash_attention(builder, options.flash_attn);
  add_cache_types(builder, options);
  add_rpc_servers(builder, options);
  add_split(builder, options, install.backend);
  add_files(builder, options);
  add_memory(builder, options, install.backend, lock_limit);
  add_caches(builder, options, slot_dir);
  add_mode(builder, options);
  if (!builder.missing().empty()) {
    return fail(kEngineUnusable,
                fmt::format("{} can't serve a model: it has no {}.", install.server.string(),
                            builder.missing().front()),
                "Install another with `make engine`, or correct [engines] llama_server.");
  }
  auto& argv = builder.line().argv;
  argv.insert(argv.end(), options.extra_args.begin(), options.extra_args.end());
  return std::move(builder.line());
}

Health health_of_status(int http_status) {
  if (http_status == 200) return Health::kReady;
  return http_status == 503 ? Health::kLoading : Health::kFailing;
}

}  // namespace yoke::engines
