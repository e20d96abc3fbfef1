#include "config/config.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <sys/stat.h>
#include <system_error>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "config/listen.h"
#include "config/toml_reader.h"

namespace yoke::config {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

constexpr std::size_t kMaxFileBytes = 1u << 20;
constexpr std::size_t kMaxKeyFileBytes = 4096;
constexpr std::size_t kMaxModelNameLength = 128;
constexpr int kMaxContext = 1 << 24;
constexpr int kMaxBatch = 1 << 20;

constexpr std::array<std::pair<std::string_view, ServerType>, 3> kServerTypes{
    {{"llm", ServerType::kLlm},
     {"embedding", ServerType::kEmbedding},
     {"rerank", ServerType::kRerank}}};
constexpr std::array<std::pair<std::string_view, FlashAttention>, 3> kFlashAttention{
    {{"auto", FlashAttention::kAuto}, {"on", FlashAttention::kOn}, {"off", FlashAttention::kOff}}};
constexpr std::array<std::pair<std::string_view, AnswerCheck>, 3> kAnswerChecks{
    {{"auto", AnswerCheck::kAuto}, {"on", AnswerCheck::kOn}, {"off", AnswerCheck::kOff}}};
constexpr std::array<std::pair<std::string_view, log::Level>, 4> kLogLevels{
    {{"debug", log::Level::kDebug},
     {"info", log::Level::kInfo},
     {"warning", log::Level::kWarning},
     {"error", log::Level::kError}}};
constexpr std::array<std::string_view, 4> kReasoningFormats{"auto", "none", "deepseek",
                                                            "deepseek-legacy"};
constexpr std::array<std::string_view, 4> kBackends{"vulkan", "rocm", "cuda", "cpu"};
// Those of llama.cpp's KV cache.
constexpr std::array<std::string_view, 9> kCacheTypes{"f32",  "f16",    "bf16", "q8_0", "q4_0",
                                                      "q4_1", "iq4_nl", "q5_0", "q5_1"};
constexpr std::array<std::string_view, 4> kSplitModes{"none", "layer", "row", "tensor"};
constexpr int kMaxGpus = 128;
constexpr std::array<std::string_view, 5> kPoolings{"none", "mean", "cls", "last", "rank"};

constexpr std::string_view kModelExample =
    "Add one:\n\n[models.smollm2]\nmodel_path = \"SmolLM2-135M-Instruct.Q4_1.gguf\"";

// The file's bytes, at most `limit` of them.
Result<std::string> read_file(const fs::path& file, std::size_t limit) {
  std::ifstream in(file, std::ios::binary);
  std::string text(limit + 1, '\0');
  if (in) in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in.is_open() || in.bad()) {
    return fail(kIo, fmt::format("{} can't be read.", file.string()),
                "Check its owner and permissions.");
  }
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.size() > limit) {
    return fail(kConfigInvalid, fmt::format("{} is longer than {} bytes.", file.string(), limit),
                "Is this the right file?");
  }
  return text;
}

bool readable_by_others(const fs::path& file) {
  struct stat info{};
  return ::stat(file.c_str(), &info) == 0 && (info.st_mode & (S_IRGRP | S_IROTH)) != 0;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

// What is wrong with a key, or empty. Says nothing about its content.
std::string problem_of_key(std::string_view key) {
  if (key.size() < kMinApiKeyLength) {
    return fmt::format(
        "too short: a key has at least {} characters (`openssl rand -hex 24` makes one).",
        kMinApiKeyLength);
  }
  const bool visible =
      std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c <= '~'; });
  return visible ? "" : "a key has only visible ASCII characters and no spaces.";
}

bool is_origin(std::string_view origin) {
  if (origin == "*") return true;
  for (std::string_view scheme : {"http://", "https://"}) {
    if (!origin.starts_with(scheme)) continue;
    const std::string_view host = origin.substr(scheme.size());
    return !host.empty() && host.find_first_of("/?#* ,") == std::string_view::npos;
  }
  return false;
}

std::string exposure_text(const ServerConfig& server) {
  return fmt::format(
      "other machines can reach {}, so an api_key is required. Add api_key to [server] "
      "(`openssl rand -hex 24` makes one), or listen on 127.0.0.1.",
      server.host);
}

// Built-in templates have plain names: "chatml".
bool is_template_file(std::string_view text) {
  return text.find('/') != std::string_view::npos || text.ends_with(".jinja");
}

class ConfigReader {
 public:
  explicit ConfigReader(const fs::path& file) : problems_(file) { config_.file = file; }

  Result<Config> read(std::string_view text) {
    if (const auto document = parse_toml(text, problems_)) read_document(*document);
    if (!problems_.empty()) return fail(problems_.to_error());
    return std::move(config_);
  }

 private:
  void read_document(const toml::table& document) {
    TomlTable root(document, {}, problems_);
    if (auto server = root.table("server")) read_server(*server);
    if (auto engines = root.table("engines")) read_engines(*engines);
    auto models = root.table("models");
    if (models) read_models(*models);
    root.reject_unknown();
    if (config_.models.empty() && problems_.empty()) {
      problems_.add(0, kConfigInvalid, fmt::format("no model is configured. {}", kModelExample));
    }
  }

  void read_server(TomlTable& table) {
    ServerConfig& server = config_.server;
    std::string listen;
    if (table.read("listen", listen)) {
      if (auto address = parse_listen(listen)) {
        server.host = std::move(address->host);
        server.port = address->port;
      } else {
        table.refuse("listen", address.error().text());
      }
    }
    read_api_key(table);
    read_origins(table);
    table.read_size("max_request_size", server.max_request_bytes, 1u << 10, 4ull << 30);
    table.read("start_timeout", server.start_timeout, milliseconds(1));
    table.read("first_byte_timeout", server.first_byte_timeout, milliseconds(1));
    table.read("idle_timeout", server.idle_timeout, milliseconds(1));
    table.read("hang_timeout", server.hang_timeout, milliseconds(0));
    table.read("threads", server.threads, 0, 1024);
    // The engine is started in a directory of its own, so nothing may depend on Yoke's.
    if (table.read("model_dir", server.model_dir))
      server.model_dir = fs::absolute(server.model_dir);
    if (table.read("state_dir", server.state_dir))
      server.state_dir = fs::absolute(server.state_dir);
    table.read("log_level", server.log_level, kLogLevels);
    table.reject_unknown();
    const bool keyed = table.has("api_key") || table.has("api_key_file");
    if (!keyed && !is_loopback(server.host)) {
      problems_.add(table.line_of("listen"), kApiKeyRequired, exposure_text(server));
    }
  }

  void read_api_key(TomlTable& table) {
    const bool inline_key = table.read("api_key", config_.server.api_key);
    fs::path file;
    const bool file_key = table.read("api_key_file", file);
    if (inline_key && file_key) {
      table.refuse("api_key_file", "there is an api_key too. Keep one of them.");
    } else if (file_key) {
      read_api_key_file(table, config_.file.parent_path() / file);
    } else if (inline_key) {
      const std::string problem = problem_of_key(config_.server.api_key);
      if (!problem.empty()) table.refuse("api_key", problem);
      warn_if_readable_by_others(config_.file);
    }
  }

  void read_api_key_file(TomlTable& table, const fs::path& file) {
    const auto text = read_file(file, kMaxKeyFileBytes);
    if (!text) return table.refuse("api_key_file", text.error().text());
    config_.server.api_key = trimmed(*text);
    const std::string problem = problem_of_key(config_.server.api_key);
    if (!problem.empty()) {
      table.refuse("api_key_file", fmt::format("{}: {}", file.string(), problem));
    }
    warn_if_readable_by_others(file);
  }

  void read_origins(TomlTable& table) {
    if (!table.read("allowed_origins", config_.server.allowed_origins)) return;
    for (const std::string& origin : config_.server.allowed_origins) {
      if (is_origin(origin)) continue;
      table.refuse("allowed_origins",
                   fmt::format("'{}' is no origin. Write https://example.org or "
                               "http://localhost:3000, without a path, or '*' for all.",
                               origin));
    }
  }

  void read_engines(TomlTable& table) {
    EnginesConfig& engines = config_.engines;
    engines.llama_server = read_program(table, "llama_server");
    for (const std::string_view backend : kBackends) {
      const std::string key = fmt::format("llama_server_{}", backend);
      const auto program = read_program(table, key);
      if (!program) continue;
      if (engines.llama_server) {
        table.refuse(key, "llama_server is the only engine where it is set. Keep one of them.");
      }
      engines.llama_servers.emplace(backend, *program);
    }
    engines.vllm = read_program(table, "vllm");
    engines.rocm_path = read_program(table, "rocm_path");
    table.read("software_devices", engines.software_devices);
    table.reject_unknown();
  }

  // A path that starts at the configuration file's directory.
  std::optional<fs::path> read_program(TomlTable& table, std::string_view key) const {
    fs::path program;
    if (!table.read(key, program)) return std::nullopt;
    return config_.file.parent_path() / program;
  }

  void read_models(TomlTable& table) {
    for (auto& [name, model] : table.tables()) {
      if (!is_model_name(name)) {
        problems_.add(model.line(), kConfigInvalid,
                      fmt::format("'{}' is no name for a model. Use letters, digits and . _ : / + "
                                  "@ -, at most {} of them, the first a letter or digit.",
                                  name, kMaxModelNameLength));
      }
      std::string catalogue_name = read_catalogue_name(model);
      const bool has_path = catalogue_name.empty() && !model.has("model");
      config_.models.push_back(
          {name, read_options(model, has_path), std::move(catalogue_name), model.line()});
    }
  }

  static std::string read_catalogue_name(TomlTable& table) {
    std::string name;
    if (!table.read("model", name)) return name;
    if (table.has("model_path")) {
      table.refuse("model", "model_path says already which model it is; take out one of them.");
    } else if (!is_model_name(name)) {
      table.refuse("model", "expected the name of a model that `yoke list` shows.");
    }
    return name;
  }

  // `needs_path`: nothing else says where the model lies.
  LoadOptions read_options(TomlTable& table, bool needs_path) {
    LoadOptions options;
    const bool has_path = read_model_file(table, "model_path", options.model_path);
    if (needs_path && !has_path && !table.has("model_path")) {
      table.refuse("model_path",
                   "is missing. Name the model's GGUF file, or the directory of a model in "
                   "HuggingFace's format; or with `model` one that `yoke list` shows.");
    }
    table.read("server_type", options.server_type, kServerTypes);
    read_sizes(table, options);
    read_backends(table, options);
    read_devices(table, options);
    read_memory(table, options);
    read_chat(table, options);
    read_model_file(table, "mmproj", options.mmproj);
    read_model_file(table, "draft_model", options.draft_model);
    if (table.read("lora", options.lora)) {
      for (fs::path& file : options.lora) file = config_.server.model_dir / file;
    }
    table.read_one_of("pooling", options.pooling, kPoolings);
    table.read("answer_check", options.answer_check, kAnswerChecks);
    if (table.read("extra_args", options.extra_args)) {
      if (const auto checked = check_extra_args(options.extra_args); !checked) {
        table.refuse("extra_args", checked.error().text());
      }
    }
    table.reject_unknown();
    return options;
  }

  // A path that starts at model_dir.
  bool read_model_file(TomlTable& table, std::string_view key, fs::path& into) const {
    if (!table.read(key, into)) return false;
    into = config_.server.model_dir / into;
    return true;
  }

  static void read_sizes(TomlTable& table, LoadOptions& options) {
    table.read("n_ctx", options.n_ctx, 0, kMaxContext);
    table.read("n_batch", options.n_batch, 0, kMaxBatch);
    read_ubatch(table, options);
    table.read("n_gpu_layers", options.n_gpu_layers, -1, 10000);
    table.read("threads", options.threads, 0, 4096);
    table.read("parallel", options.parallel, 0, 1024);
  }

  static void read_devices(TomlTable& table, LoadOptions& options) {
    table.read_one_of("split_mode", options.split_mode, kSplitModes);
    table.read("main_gpu", options.main_gpu, -1, kMaxGpus - 1);
    if (!table.read("tensor_split", options.tensor_split)) return;
    const auto is_share = [](double share) { return share > 0; };
    if (options.tensor_split.size() > kMaxGpus) {
      table.refuse("tensor_split", fmt::format("more than {} shares.", kMaxGpus));
    } else if (std::ranges::none_of(options.tensor_split, is_share)) {
      table.refuse("tensor_split", "one share at least has to be more than 0.");
    }
  }

  static void read_memory(TomlTable& table, LoadOptions& options) {
    table.read("flash_attn", options.flash_attn, kFlashAttention);
    table.read_one_of("cache_type_k", options.cache_type_k, kCacheTypes);
    table.read_one_of("cache_type_v", options.cache_type_v, kCacheTypes);
    if (options.flash_attn == FlashAttention::kOff && is_quantized(options.cache_type_v)) {
      table.refuse("cache_type_v",
                   fmt::format("'{}' needs flash attention, and flash_attn is \"off\". Set it to "
                               "\"auto\", or this to \"f16\".",
                               options.cache_type_v));
    }
    table.read("fit_memory", options.fit_memory);
    table.read("mlock", options.mlock);
    table.read("gpu_memory_utilization", options.gpu_memory_utilization, 0, 1);
  }

  void read_chat(TomlTable& table, LoadOptions& options) const {
    table.read("cont_batching", options.cont_batching);
    table.read("jinja", options.jinja);
    table.read_one_of("reasoning_format", options.reasoning_format, kReasoningFormats);
    if (!table.read("chat_template", options.chat_template)) return;
    if (options.chat_template.empty()) {
      table.refuse("chat_template", "expected a template's name, or the path of a Jinja file.");
    } else if (is_template_file(options.chat_template)) {
      options.chat_template =
          (config_.server.model_dir / expand_home(options.chat_template)).string();
    }
  }

  static void read_backends(TomlTable& table, LoadOptions& options) {
    if (!table.read("backends", options.backends)) return;
    for (const std::string& backend : options.backends) {
      if (std::ranges::find(kBackends, backend) == kBackends.end()) {
        table.refuse("backends",
                     fmt::format("'{}' is none of {}.", backend, fmt::join(kBackends, ", ")));
      }
    }
  }

  static void read_ubatch(TomlTable& table, LoadOptions& options) {
    table.read("n_ubatch", options.n_ubatch, 0, kMaxBatch);
    if (options.n_batch > 0 && options.n_ubatch > options.n_batch) {
      table.refuse("n_ubatch", fmt::format("{} is more than n_batch, which is {}.",
                                           options.n_ubatch, options.n_batch));
    }
  }

  void warn_if_readable_by_others(const fs::path& file) {
    if (!readable_by_others(file)) return;
    config_.warnings.push_back(
        fmt::format("{} holds a key and other users can read it. Run: chmod 600 {}", file.string(),
                    file.string()));
  }

  Config config_;
  Problems problems_;
};

}  // namespace

Result<Config> parse_config(std::string_view text, const fs::path& file) {
  return ConfigReader(file).read(text);
}

Result<Config> load_config(const fs::path& file) {
  std::error_code error;
  const fs::file_status status = fs::status(file, error);
  if (status.type() == fs::file_type::not_found) {
    return fail(kConfigNotFound, fmt::format("There is no configuration file {}.", file.string()),
                "Create it (examples/yoke.toml shows every key) or name another with --config.");
  }
  if (fs::is_directory(status)) {
    return fail(kConfigNotFound, fmt::format("{} is a directory.", file.string()),
                "Name the configuration file in it with --config.");
  }
  YOKE_TRY(const std::string text, read_file(file, kMaxFileBytes));
  return parse_config(text, file);
}

Result<void> check_exposure(const ServerConfig& server) {
  if (is_loopback(server.host) || !server.api_key.empty()) return {};
  return fail(kApiKeyRequired, "Yoke would listen beyond this machine: " + exposure_text(server));
}

bool is_model_name(std::string_view name) {
  const auto is_alnum = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  };
  if (name.empty() || name.size() > kMaxModelNameLength || !is_alnum(name.front())) return false;
  return std::all_of(name.begin(), name.end(), [&](char c) {
    return is_alnum(c) || std::string_view("._:/+@-").find(c) != std::string_view::npos;
  });
}

}  // namespace yoke::config
