#include "fake_engine/options.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

namespace fake_engine {
namespace {

using Apply = bool (*)(Options& options, const std::string& value);

struct Flag {
  std::vector<std::string_view> names;  // As llama-server orders them.
  std::string_view hint;                // Empty: takes no value.
  std::string_view help;
  std::string_view env;   // The environment variable that --help names.
  Apply apply = nullptr;  // None: accepted, without effect here.
};

bool parse_int(const std::string& text, int& into) {
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, into);
  return error == std::errc() && rest == end;
}

bool append_api_keys(Options& options, std::string_view list) {
  while (!list.empty()) {
    const size_t end = std::min(list.find_first_of(",\n"), list.size());
    if (end > 0) options.api_keys.emplace_back(list.substr(0, end));
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return true;
}

bool read_api_keys(Options& options, const std::string& path) {
  std::ifstream file(path);
  if (!file) return false;
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  return append_api_keys(options, text);
}

const std::vector<Flag>& common_flags() {
  static const std::vector<Flag> flags = {
      {{"-h", "--help", "--usage"}, "", "print usage and exit", ""},
      {{"--version"}, "", "show version and build info", ""},
      {{"-t", "--threads"},
       "N",
       "number of CPU threads to use during generation (default: -1)",
       "LLAMA_ARG_THREADS"},
      {{"-tb", "--threads-batch"},
       "N",
       "number of threads to use during batch and prompt processing (default: same as --threads)",
       ""},
      {{"-c", "--ctx-size"},
       "N",
       "size of the prompt context (default: 0, 0 = loaded from model)",
       "LLAMA_ARG_CTX_SIZE",
       [](Options& o, const std::string& v) { return parse_int(v, o.ctx_size); }},
      {{"-n", "--predict", "--n-predict"},
       "N",
       "number of tokens to predict (default: -1, -1 = infinity)",
       "LLAMA_ARG_N_PREDICT"},
      {{"-b", "--batch-size"},
       "N",
       "logical maximum batch size (default: 2048)",
       "LLAMA_ARG_BATCH"},
      {{"-ub", "--ubatch-size"},
       "N",
       "physical maximum batch size (default: 512)",
       "LLAMA_ARG_UBATCH"},
      {{"--swa-full"}, "", "use full-size SWA cache (default: false)", "LLAMA_ARG_SWA_FULL"},
      {{"-cram", "--cache-ram"},
       "N",
       "set the maximum cache size in MiB (default: 8192, -1 - no limit, 0 - disable)",
       "LLAMA_ARG_CACHE_RAM"},
      {{"-kvu", "--kv-unified", "-no-kvu", "--no-kv-unified"},
       "",
       "use single unified KV buffer shared across all sequences",
       "LLAMA_ARG_KV_UNIFIED"},
      {{"--context-shift", "--no-context-shift"},
       "",
       "whether to use context shift on infinite text generation (default: disabled)",
       "LLAMA_ARG_CONTEXT_SHIFT"},
      {{"-fa", "--flash-attn"},
       "[on|off|auto]",
       "set Flash Attention use ('on', 'off', or 'auto', default: 'auto')",
       "LLAMA_ARG_FLASH_ATTN",
       [](Options&, const std::string& v) { return v == "on" || v == "off" || v == "auto"; }},
      {{"--warmup", "--no-warmup"},
       "",
       "whether to perform warmup with an empty run (default: enabled)",
       ""},
      {{"--rope-scaling"}, "{none,linear,yarn}", "RoPE frequency scaling method", ""},
      {{"-kvo", "--kv-offload", "-nkvo", "--no-kv-offload"},
       "",
       "whether to enable KV cache offloading (default: enabled)",
       "LLAMA_ARG_KV_OFFLOAD"},
      {{"--repack", "-nr", "--no-repack"},
       "",
       "whether to enable weight repacking (default: enabled)",
       "LLAMA_ARG_REPACK"},
      {{"--no-host"}, "", "bypass host buffer allowing extra buffers to be used", ""},
      {{"-ctk", "--cache-type-k"},
       "TYPE",
       "KV cache data type for K (default: f16)",
       "LLAMA_ARG_CACHE_TYPE_K",
       [](Options& o, const std::string& v) { return o.cache_types += "k=" + v, true; }},
      {{"-ctv", "--cache-type-v"},
       "TYPE",
       "KV cache data type for V (default: f16)",
       "LLAMA_ARG_CACHE_TYPE_V",
       [](Options& o, const std::string& v) { return o.cache_types += "v=" + v, true; }},
      {{"--rpc"}, "SERVERS", "comma-separated list of RPC servers (host:port)", "LLAMA_ARG_RPC"},
      {{"-lm", "--load-mode"},
       "MODE",
       "how to load the model: auto, none, mmap, mlock, mmap+mlock, dio (default: auto)",
       "LLAMA_ARG_LOAD_MODE"},
      {{"--numa"}, "TYPE", "attempt optimizations that help on some NUMA systems", ""},
      {{"-dev", "--device"},
       "<dev1,dev2,..>",
       "comma-separated list of devices to use for offloading (none = don't offload)",
       "LLAMA_ARG_DEVICE"},
      {{"--list-devices"}, "", "print list of available devices and exit", ""},
      {{"-ot", "--override-tensor"},
       "<tensor name pattern>=<buffer type>,...",
       "override tensor buffer type",
       "LLAMA_ARG_OVERRIDE_TENSOR"},
      {{"-cmoe", "--cpu-moe"}, "", "keep all MoE weights in the CPU", "LLAMA_ARG_CPU_MOE"},
      {{"-ncmoe", "--n-cpu-moe"},
       "N",
       "keep the MoE weights of the first N layers in the CPU",
       "LLAMA_ARG_N_CPU_MOE"},
      {{"-ngl", "--gpu-layers", "--n-gpu-layers"},
       "N",
       "max. number of layers to store in VRAM, a number, 'auto', or 'all' (default: auto)",
       "LLAMA_ARG_N_GPU_LAYERS"},
      {{"-sm", "--split-mode"},
       "{none,layer,row,tensor}",
       "how to split the model across multiple GPUs",
       "LLAMA_ARG_SPLIT_MODE"},
      {{"-ts", "--tensor-split"},
       "N0,N1,N2,...",
       "fraction of the model to offload to each GPU",
       "LLAMA_ARG_TENSOR_SPLIT"},
      {{"-mg", "--main-gpu"}, "INDEX", "the GPU to use for the model", "LLAMA_ARG_MAIN_GPU"},
      {{"-fit", "--fit"},
       "[on|off]",
       "whether to adjust unset arguments to fit in device memory ('on' or 'off', default: 'on')",
       "LLAMA_ARG_FIT",
       [](Options&, const std::string& v) { return v == "on" || v == "off"; }},
      {{"-fitt", "--fit-target"},
       "MiB0,MiB1,MiB2,...",
       "target margin per device for --fit (default: 1024)",
       "LLAMA_ARG_FIT_TARGET"},
      {{"-fitc", "--fit-ctx"},
       "N",
       "minimum ctx size that can be set by --fit option (default: 4096)",
       "LLAMA_ARG_FIT_CTX"},
      {{"-m", "--model"},
       "FNAME",
       "model path to load",
       "LLAMA_ARG_MODEL",
       [](Options& o, const std::string& v) { return o.model_path = v, true; }},
      {{"--log-disable"}, "", "log disable", ""},
      {{"--log-file"}, "FNAME", "log to file", "LLAMA_LOG_FILE"},
      {{"--log-colors"}, "[on|off|auto]", "set colored logging", "LLAMA_LOG_COLORS"},
      {{"-v", "--verbose", "--log-verbose"}, "", "set verbosity level to infinity", ""},
      {{"--offline"}, "", "offline mode: forces use of cache", "LLAMA_OFFLINE"},
      {{"-lv", "--verbosity", "--log-verbosity"},
       "N",
       "set the verbosity threshold (default: 3)",
       "LLAMA_LOG_VERBOSITY"},
      {{"--log-prefix"}, "", "enable prefix in log messages", "LLAMA_LOG_PREFIX"},
      {{"--no-log-prefix"},
       "",
       "disable prefix in log messages",
       "LLAMA_LOG_NO_PREFIX",
       [](Options& o, const std::string&) { return o.log_prefix = false, true; }},
      {{"--log-timestamps"}, "", "enable timestamps in log messages", "LLAMA_LOG_TIMESTAMPS"},
      {{"--no-log-timestamps"},
       "",
       "disable timestamps in log messages",
       "LLAMA_LOG_NO_TIMESTAMPS",
       [](Options& o, const std::string&) { return o.log_timestamps = false, true; }},
  };
  return flags;
}

const std::vector<Flag>& server_flags() {
  static const std::vector<Flag> flags = {
      {{"-np", "--parallel"},
       "N",
       "number of server slots (default: -1, -1 = auto)",
       "LLAMA_ARG_N_PARALLEL",
       [](Options& o, const std::string& v) {
         return parse_int(v, o.parallel) && o.parallel != 0;
       }},
      {{"-cb", "--cont-batching", "-nocb", "--no-cont-batching"},
       "",
       "whether to enable continuous batching (default: enabled)",
       "LLAMA_ARG_CONT_BATCHING"},
      {{"-mm", "--mmproj"}, "FILE", "path to a multimodal projector file", "LLAMA_ARG_MMPROJ"},
      {{"-a", "--alias"},
       "STRING",
       "set model name aliases, comma-separated (to be used by API)",
       "LLAMA_ARG_ALIAS",
       [](Options& o, const std::string& v) { return o.alias = v.substr(0, v.find(',')), true; }},
      {{"--host"},
       "HOST",
       "IP addresses to listen on (default: 127.0.0.1)",
       "LLAMA_ARG_HOST",
       [](Options& o, const std::string& v) { return o.host = v, !v.empty(); }},
      {{"--port"},
       "PORT",
       "port to listen (default: 8080)",
       "LLAMA_ARG_PORT",
       [](Options& o, const std::string& v) {
         return parse_int(v, o.port) && o.port >= 0 && o.port <= 65535;
       }},
      {{"--ui", "--webui", "--no-ui", "--no-webui"},
       "",
       "whether to enable the Web UI (default: enabled)",
       "LLAMA_ARG_UI"},
      {{"--embedding", "--embeddings"},
       "",
       "restrict to only support embedding use case",
       "LLAMA_ARG_EMBEDDINGS",
       [](Options& o, const std::string&) { return o.embeddings = true; }},
      {{"--pooling"},
       "{none,mean,cls,last,rank}",
       "pooling type for embeddings, use model default if unspecified",
       "LLAMA_ARG_POOLING"},
      {{"--rerank", "--reranking"},
       "",
       "enable reranking endpoint on server (default: disabled)",
       "LLAMA_ARG_RERANKING",
       [](Options& o, const std::string&) { return o.embeddings = true; }},
      {{"--api-key"},
       "KEY",
       "API key to use for authentication, comma-separated (default: none)",
       "LLAMA_API_KEY",
       [](Options& o, const std::string& v) { return append_api_keys(o, v); }},
      {{"--api-key-file"}, "FNAME", "path to file containing API keys", "", read_api_keys},
      {{"-to", "--timeout"},
       "N",
       "server read/write timeout in seconds (default: 3600)",
       "LLAMA_ARG_TIMEOUT"},
      {{"--threads-http"},
       "N",
       "number of threads used to process HTTP requests (default: -1)",
       "LLAMA_ARG_THREADS_HTTP"},
      {{"--cache-prompt", "--no-cache-prompt"},
       "",
       "whether to enable prompt caching (default: enabled)",
       "LLAMA_ARG_CACHE_PROMPT"},
      {{"--cache-reuse"},
       "N",
       "min chunk size to attempt reusing from the cache (default: 0)",
       "LLAMA_ARG_CACHE_REUSE"},
      {{"--metrics"},
       "",
       "enable prometheus compatible metrics endpoint (default: disabled)",
       "LLAMA_ARG_ENDPOINT_METRICS",
       [](Options& o, const std::string&) { return o.metrics = true; }},
      {{"--props"}, "", "enable changing global properties via POST /props", ""},
      {{"--slots"},
       "",
       "expose slots monitoring endpoint (default: enabled)",
       "LLAMA_ARG_ENDPOINT_SLOTS",
       [](Options& o, const std::string&) { return o.slots_endpoint = true; }},
      {{"--no-slots"},
       "",
       "disables slots monitoring endpoint",
       "LLAMA_ARG_NO_ENDPOINT_SLOTS",
       [](Options& o, const std::string&) { return !(o.slots_endpoint = false); }},
      {{"--slot-save-path"},
       "PATH",
       "path to save slot kv cache (default: disabled)",
       "",
       [](Options& o, const std::string& v) {
         o.slot_save_path = v;
         return std::filesystem::is_directory(v);
       }},
      {{"--jinja", "--no-jinja"},
       "",
       "whether to use jinja template engine for chat (default: enabled)",
       "LLAMA_ARG_JINJA"},
      {{"--reasoning-format"},
       "FORMAT",
       "controls whether thought tags are extracted (default: auto)",
       "LLAMA_ARG_THINK"},
      {{"--reasoning-budget"},
       "N",
       "controls the amount of thinking allowed (default: -1)",
       "LLAMA_ARG_THINK_BUDGET"},
      {{"--chat-template"},
       "JINJA_TEMPLATE",
       "set custom jinja chat template",
       "LLAMA_ARG_CHAT_TEMPLATE"},
      {{"--chat-template-file"},
       "JINJA_TEMPLATE_FILE",
       "set custom jinja chat template file",
       "LLAMA_ARG_CHAT_TEMPLATE_FILE"},
      {{"--sleep-idle-seconds"},
       "SECONDS",
       "number of seconds of idleness after which the server will sleep (default: -1)",
       ""},
      {{"-md", "--model-draft", "--spec-draft-model"},
       "FNAME",
       "draft model for speculative decoding",
       "LLAMA_ARG_MODEL_DRAFT"},
  };
  return flags;
}

std::set<std::string_view> split_names(std::string_view list) {
  std::set<std::string_view> names;
  while (!list.empty()) {
    const size_t end = std::min(list.find(','), list.size());
    names.insert(list.substr(0, end));
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return names;
}

const Flag* find_flag(std::string_view name, const std::set<std::string_view>& hidden) {
  if (hidden.contains(name)) return nullptr;
  for (const auto* flags : {&common_flags(), &server_flags()}) {
    for (const Flag& flag : *flags) {
      if (std::find(flag.names.begin(), flag.names.end(), name) != flag.names.end()) return &flag;
    }
  }
  return nullptr;
}

// One flag as llama-server prints it: names, then the help from column 40 on.
std::string help_entry(const Flag& flag, const std::set<std::string_view>& hidden) {
  constexpr size_t kHelpColumn = 40;
  std::string names;
  for (const std::string_view name : flag.names) {
    if (hidden.contains(name)) continue;
    if (!names.empty()) names += names.find(',') == names.npos ? "," : ", ";
    if (names.ends_with(',')) names.append(names.size() < 7 ? 7 - names.size() : 1, ' ');
    names += name;
  }
  if (names.empty()) return "";
  if (!flag.hint.empty()) names.append(" ").append(flag.hint);
  const std::string indent(kHelpColumn, ' ');
  std::string entry = std::move(names);
  if (entry.size() > kHelpColumn - 3) {
    entry.append("\n").append(indent);
  } else {
    entry.append(kHelpColumn - entry.size(), ' ');
  }
  entry.append(flag.help).append("\n");
  if (!flag.env.empty()) entry.append(indent).append("(env: ").append(flag.env).append(")\n");
  return entry;
}

ParsedCommandLine failed(std::string error) { return {Action::kFail, {}, std::move(error)}; }

}  // namespace

std::string Options::model_name() const {
  if (!alias.empty()) return alias;
  return model_path.empty() ? "fake" : model_path;
}

ParsedCommandLine parse_command_line(const std::vector<std::string>& arguments,
                                     std::string_view hidden) {
  const std::set<std::string_view> hidden_names = split_names(hidden);
  ParsedCommandLine parsed;
  if (const char* keys = std::getenv("LLAMA_API_KEY")) append_api_keys(parsed.options, keys);

  for (size_t at = 0; at < arguments.size(); ++at) {
    const std::string& name = arguments[at];
    const Flag* const flag = find_flag(name, hidden_names);
    if (!flag) return failed("error: invalid argument: " + name);
    if (name == "--version") return {Action::kShowVersion, {}, {}};
    if (name == "--list-devices") return {Action::kListDevices, {}, {}};
    if (flag->names.front() == "-h") return {Action::kShowHelp, {}, {}};

    std::string value;
    if (!flag->hint.empty()) {
      if (at + 1 == arguments.size()) {
        return failed("error while handling argument \"" + name +
                      "\": expected value for argument");
      }
      value = arguments[++at];
    }
    if (flag->apply && !flag->apply(parsed.options, value)) {
      return failed("error while handling argument \"" + name + "\": invalid value: " + value);
    }
  }
  return parsed;
}

std::string help_text(std::string_view hidden) {
  const std::set<std::string_view> hidden_names = split_names(hidden);
  std::string text = "----- common params -----\n\n";
  for (const Flag& flag : common_flags()) text += help_entry(flag, hidden_names);
  text += "\n\n----- example-specific params -----\n\n";
  for (const Flag& flag : server_flags()) text += help_entry(flag, hidden_names);
  return text;
}

}  // namespace fake_engine
