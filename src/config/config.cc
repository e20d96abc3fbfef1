#include "config/config.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <sys/stat.h>
#include <system_error>

#include <fmt/format.h>

#include "config/listen.h"
#include "config/model_reader.h"
#include "config/toml_reader.h"

namespace yoke::config {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

constexpr std::size_t kMaxFileBytes = 1u << 20;
constexpr std::size_t kMaxKeyFileBytes = 4096;
constexpr std::size_t kMaxNameLength = 128;
constexpr std::uint64_t kMinBudget = 1u << 20;

constexpr std::array<std::pair<std::string_view, log::Level>, 4> kLogLevels{
    {{"debug", log::Level::kDebug},
     {"info", log::Level::kInfo},
     {"warning", log::Level::kWarning},
     {"error", log::Level::kError}}};

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
    if (auto memory = root.table("memory")) read_memory(*memory);
    if (auto contexts = root.table("contexts")) read_contexts(*contexts);
    if (auto groups = root.table("groups")) read_groups(*groups);
    if (auto models = root.table("models")) read_models(*models);
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
    table.read("rpc_client", rpc_client_, kRpcClients);
    table.reject_unknown();
  }

  // A path that starts at the configuration file's directory.
  std::optional<fs::path> read_program(TomlTable& table, std::string_view key) const {
    fs::path program;
    if (!table.read(key, program)) return std::nullopt;
    return config_.file.parent_path() / program;
  }

  void read_memory(TomlTable& table) {
    const auto read_budget = [&](std::string_view key, std::optional<std::uint64_t>& into) {
      std::uint64_t bytes = 0;
      if (table.read_size(key, bytes, kMinBudget, kMaxMemory)) into = bytes;
    };
    read_budget("host", config_.memory.host);
    read_budget("gpu", config_.memory.gpu);
    table.read("unload_after", unload_after_, milliseconds(0));
    table.reject_unknown();
  }

  void read_contexts(TomlTable& table) {
    table.read_size("max_size", config_.contexts.max_bytes, 0, kMaxMemory);
    table.read("save_after", config_.contexts.save_after, milliseconds(0));
    table.reject_unknown();
  }

  void read_groups(TomlTable& table) {
    auto tables = table.tables();
    for (auto& [name, group] : tables) {
      check_name(name, "a group", group.line());
      config_.groups.push_back({.name = name, .one_at_a_time = false, .not_with = {}});
      group.read("one_at_a_time", config_.groups.back().one_at_a_time);
      group.read("not_with", config_.groups.back().not_with);
      group.reject_unknown();
    }
    // A group may name one that comes later in the file.
    for (std::size_t i = 0; i < tables.size(); ++i) check_not_with(tables[i].second, i);
  }

  void check_not_with(TomlTable& table, std::size_t index) {
    const GroupConfig& group = config_.groups[index];
    for (const std::string& other : group.not_with) {
      const std::string problem = other == group.name
                                      ? "that is the group itself. Write one_at_a_time = true."
                                      : problem_of_group(other, config_.groups);
      if (!problem.empty()) table.refuse("not_with", problem);
    }
  }

  void read_models(TomlTable& table) {
    const ModelDefaults defaults{config_.server.model_dir, unload_after_, config_.groups,
                                 rpc_client_};
    for (auto& [name, model] : table.tables()) {
      check_name(name, "a model", model.line());
      config_.models.push_back(read_model(name, model, defaults));
    }
    warn_of_shared_rpc_servers();
  }

  // It serves one client at a time; the next one waits.
  void warn_of_shared_rpc_servers() {
    std::map<std::string, const ModelConfig*> users;
    for (const ModelConfig& model : config_.models) {
      for (const RpcServer& server : model.options.rpc_servers) {
        const auto [user, first] = users.emplace(server.endpoint, &model);
        if (first || are_never_together(*user->second, model)) continue;
        config_.warnings.push_back(fmt::format(
            "The models {} and {} name the same RPC server {}, which serves one of them at a time: "
            "give each its own, or put both into a group with one_at_a_time.",
            user->second->name, model.name, server.endpoint));
      }
    }
  }

  bool are_never_together(const ModelConfig& a, const ModelConfig& b) const {
    const std::string& group = a.residence.group;
    return !group.empty() && group == b.residence.group &&
           std::ranges::any_of(config_.groups, [&](const GroupConfig& it) {
             return it.name == group && it.one_at_a_time;
           });
  }

  void check_name(const std::string& name, std::string_view what, int line) {
    if (is_model_name(name)) return;
    problems_.add(line, kConfigInvalid,
                  fmt::format("'{}' is no name for {}. Use letters, digits and . _ : / + @ -, at "
                              "most {} of them, the first a letter or digit.",
                              name, what, kMaxNameLength));
  }

  void warn_if_readable_by_others(const fs::path& file) {
    if (!readable_by_others(file)) return;
    config_.warnings.push_back(
        fmt::format("{} holds a key and other users can read it. Run: chmod 600 {}", file.string(),
                    file.string()));
  }

  Config config_;
  milliseconds unload_after_{0};  // Of models that don't say it themselves.
  RpcClient rpc_client_ = RpcClient::kPipelined;
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
  if (name.empty() || name.size() > kMaxNameLength || !is_alnum(name.front())) return false;
  return std::all_of(name.begin(), name.end(), [&](char c) {
    return is_alnum(c) || std::string_view("._:/+@-").find(c) != std::string_view::npos;
  });
}

}  // namespace yoke::config
