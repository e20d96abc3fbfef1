#include "engines/vllm.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <optional>
#include <system_error>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "engines/hf_config.h"

namespace yoke::engines {
namespace {

using config::LoadOptions;
using config::ServerType;
using hardware::Device;
using hardware::Machine;
using hardware::Vendor;

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;
// For models whose need of memory per token is not known.
constexpr int kUsualCacheGiB = 4;
// Whole contexts that the cache has room for if the user does not say how many requests there are.
constexpr int kUsualRequests = 4;
constexpr int kMasterPort = 29501;
constexpr int kDraftTokens = 3;

// Besides those of config::check_extra_args().
constexpr std::array<std::string_view, 7> kReservedFlags{
    "--served-model-name", "--config", "--uds", "--headless", "--grpc", "--nnodes", "--node-rank"};

Result<void> check_arguments(const std::vector<std::string>& arguments) {
  YOKE_CHECK(config::check_extra_args(arguments));
  for (const std::string& argument : arguments) {
    std::string flag = argument.substr(0, argument.find('='));
    std::replace(flag.begin(), flag.end(), '_', '-');
    if (std::ranges::find(kReservedFlags, flag) == kReservedFlags.end()) continue;
    return fail(kInvalidArgument,
                fmt::format("extra_args must not contain '{}': Yoke sets it itself.", flag),
                "Remove it.");
  }
  return {};
}

bool is_usable(const Device& device, Vendor vendor) {
  return device.vendor == vendor && !device.software;
}

std::ptrdiff_t count_of(const Machine* machine, Vendor vendor) {
  if (machine == nullptr) return 0;
  return std::ranges::count_if(
      machine->devices, [vendor](const Device& device) { return is_usable(device, vendor); });
}

// What vLLM computes on: what it was built for, or else what the machine has.
std::string backend_of(const EngineInstall& install, const Machine* machine) {
  if (!install.backend.empty()) return install.backend;
  if (count_of(machine, Vendor::kNvidia) > 0) return "cuda";
  return count_of(machine, Vendor::kAmd) > 0 ? "rocm" : "cpu";
}

// Strix Halo and Strix Point, the APUs that vLLM needs most help with.
bool has_gfx115x(const Machine* machine) {
  return machine != nullptr && std::ranges::any_of(machine->devices, [](const Device& device) {
           return device.gfx && device.gfx->value.starts_with("gfx115");
         });
}

bool has_file(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error);
}

// Tokens of a request and its answer; 0 leaves it to vLLM.
int context_of(const LoadOptions& options, const HfConfig& model) {
  if (model.max_positions > 0) return std::min(options.n_ctx, model.max_positions);
  return options.n_ctx;
}

// For the contexts of all requests at once.
int cache_gib_of(const LoadOptions& options, const HfConfig& model) {
  const int context = context_of(options, model);
  if (model.kv_bytes_per_token == 0 || context <= 0) return kUsualCacheGiB;
  const int requests = options.parallel > 0 ? options.parallel : kUsualRequests;
  const double bytes = static_cast<double>(model.kv_bytes_per_token) * context * requests;
  constexpr double kMostGiB = 1 << 20;
  return static_cast<int>(std::clamp(std::ceil(bytes / kGiB), 1.0, kMostGiB));
}

std::uint64_t gib(int count) { return static_cast<std::uint64_t>(count) << 30; }

// A command line in the making, and what it depends on.
class Builder {
 public:
  Builder(const EngineInstall& install, const Capabilities& capabilities,
          const LoadOptions& options, const Machine* machine)
      : install_(install),
        capabilities_(capabilities),
        options_(options),
        machine_(machine),
        backend_(backend_of(install, machine)),
        model_(read_hf_config(options.model_path)) {
    line_.argv = {install.server.string(), "serve", options.model_path.string()};
  }

  void add_endpoint(std::string_view alias, std::uint16_t port);
  void add_sizes();
  void add_mode();
  void add_model_parts(std::string_view alias);
  void add_devices();
  void add_backend();
  void add_notes();
  void add_environment(std::string_view address);
  void add_node(std::size_t rank, std::size_t count, const std::string& head);
  Result<CommandLine> finish();

 private:
  // False if vLLM has no such flag, or one of another kind.
  bool option(std::string_view flag, std::string value) {
    if (!capabilities_.takes_value(flag)) return false;
    line_.argv.emplace_back(flag);
    line_.argv.push_back(std::move(value));
    return true;
  }
  bool flag(std::string_view name) {
    if (!capabilities_.has(name)) return false;
    line_.argv.emplace_back(name);
    return true;
  }
  void require(std::string_view name, std::string value) {
    if (!option(name, std::move(value)) && missing_.empty()) missing_ = name;
  }
  // An option of the user's: left out with a note.
  void wish(std::string_view name, bool added) {
    if (!added) note(fmt::format("{} is left out: this vLLM has no such option.", name));
  }
  void note(std::string text) { line_.notes.push_back(std::move(text)); }
  void set(std::string name, std::string value) {
    line_.env.emplace_back(std::move(name), std::move(value));
  }

  int context() const { return context_of(options_, model_); }
  int cache_gib() const { return cache_gib_of(options_, model_); }
  void add_lora(std::string_view alias);
  void add_cpu();
  void add_gfx115x();

  const EngineInstall& install_;
  const Capabilities& capabilities_;
  const LoadOptions& options_;
  const Machine* machine_;
  std::string backend_;
  HfConfig model_;
  CommandLine line_;
  std::string missing_;
};

void Builder::add_endpoint(std::string_view alias, std::uint16_t port) {
  require("--host", "127.0.0.1");
  require("--port", std::to_string(port));
  // With an adapter the model's name is the adapter's: see add_lora().
  require("--served-model-name", std::string(alias) + (options_.lora.empty() ? "" : "-base"));
  // Older versions let every web page in the user's browser talk to them.
  option("--allowed-origins", "[]");
  flag("--disable-fastapi-docs");
  flag("--disable-uvicorn-access-log");
}

void Builder::add_sizes() {
  if (context() < options_.n_ctx) {
    note(
        fmt::format("n_ctx is {} instead of {}: the model was not made for more, and vLLM "
                    "refuses it.",
                    context(), options_.n_ctx));
  }
  if (context() > 0) wish("n_ctx", option("--max-model-len", std::to_string(context())));
  if (options_.parallel > 0) {
    wish("parallel", option("--max-num-seqs", std::to_string(options_.parallel)));
  }
  if (options_.gpu_memory_utilization > 0) {
    wish("gpu_memory_utilization",
         option("--gpu-memory-utilization", fmt::format("{}", options_.gpu_memory_utilization)));
  }
}

void Builder::add_mode() {
  const bool pooling = options_.server_type != ServerType::kLlm;
  const char* task = options_.server_type == ServerType::kEmbedding ? "embed" : "score";
  const bool added = option("--runner", pooling ? "pooling" : "generate") ||
                     option("--task", pooling ? task : "generate");
  if (pooling) wish("server_type", added);
  if (options_.server_type == ServerType::kEmbedding && !options_.pooling.empty()) {
    std::string type = options_.pooling;
    std::ranges::transform(type, type.begin(), [](unsigned char c) { return std::toupper(c); });
    wish("pooling", option("--pooler-config",
                           boost::json::serialize(boost::json::object{{"pooling_type", type}})));
  }
}

// vLLM offers an adapter as a model of its own beside the base model, so it gets the name that
// requests use.
void Builder::add_lora(std::string_view alias) {
  if (options_.lora.empty()) return;
  const std::filesystem::path& adapter = options_.lora.front();
  if (options_.lora.size() > 1) {
    note("Of lora only the first is used: vLLM applies one adapter to a request.");
  }
  if (!flag("--enable-lora") ||
      !option("--lora-modules", fmt::format("{}={}", alias, adapter.string()))) {
    missing_ = "--lora-modules";
    return;
  }
  // What vLLM takes as a limit.
  constexpr std::array<int, 8> kRanks{8, 16, 32, 64, 128, 256, 320, 512};
  const auto rank = std::ranges::lower_bound(kRanks, lora_rank(adapter));
  if (rank != kRanks.end() && *rank > 16) option("--max-lora-rank", std::to_string(*rank));
}

void Builder::add_model_parts(std::string_view alias) {
  if (has_file(options_.chat_template)) {
    wish("chat_template", option("--chat-template", options_.chat_template));
  } else if (!options_.chat_template.empty()) {
    note("chat_template is left out: for vLLM it has to be a file, as it has no built-in ones.");
  }
  if (options_.cache_type_k.starts_with("fp8") && options_.cache_type_k == options_.cache_type_v) {
    wish("cache_type_k", option("--kv-cache-dtype", options_.cache_type_k));
  } else if (config::is_quantized(options_.cache_type_k) ||
             config::is_quantized(options_.cache_type_v)) {
    note("cache_type_k and cache_type_v are left out: vLLM knows fp8 for both, or neither.");
  }
  if (!options_.draft_model.empty()) {
    const boost::json::object draft{{"model", options_.draft_model.string()},
                                    {"num_speculative_tokens", kDraftTokens}};
    wish("draft_model", option("--speculative-config", boost::json::serialize(draft)));
  }
  add_lora(alias);
}

void Builder::add_devices() {
  if (backend_ == "cpu") return;
  const Vendor vendor = backend_ == "rocm" ? Vendor::kAmd : Vendor::kNvidia;
  const auto gpus = count_of(machine_, vendor);
  if (options_.main_gpu >= 0) {
    const std::string index = std::to_string(options_.main_gpu);
    // vLLM wants both to say the same.
    if (backend_ == "rocm") set("HIP_VISIBLE_DEVICES", index);
    set("CUDA_VISIBLE_DEVICES", index);
  } else if (gpus > 1 && options_.split_mode == "row") {
    wish("split_mode", option("--tensor-parallel-size", std::to_string(gpus)));
  } else if (gpus > 1 && options_.split_mode == "layer") {
    wish("split_mode", option("--pipeline-parallel-size", std::to_string(gpus)));
  }
  if (!options_.tensor_split.empty()) {
    note("tensor_split is left out: vLLM gives every GPU the same share.");
  }
}

void Builder::add_cpu() {
  // Compiling takes minutes, and gains little on a CPU.
  flag("--enforce-eager");
  // Otherwise it takes nearly all of the host's memory.
  if (options_.gpu_memory_utilization == 0) {
    set("VLLM_CPU_KVCACHE_SPACE", std::to_string(cache_gib()));
  }
  if (options_.threads > 0) {
    set("VLLM_CPU_OMP_THREADS_BIND", "nobind");
    set("OMP_NUM_THREADS", std::to_string(options_.threads));
  }
}

// AITER is made for CDNA, and the flash attention that works is Triton's.
void Builder::add_gfx115x() {
  flag("--enforce-eager");
  option("--attention-backend", "TRITON_ATTN");
  option("--mm-encoder-attn-backend", "TRITON_ATTN");
  if (options_.gpu_memory_utilization == 0) {
    // A part of the GPU's memory means nothing where the host shares it.
    option("--kv-cache-memory-bytes",
           std::to_string(vllm_cache_bytes(options_, backend_, machine_)));
  }
  if (model_.quantization == "awq") {
    option("--quantization", "awq");
    option("--dtype", "float16");
  }
  set("FLASH_ATTENTION_TRITON_AMD_ENABLE", "TRUE");
  set("MIOPEN_FIND_MODE", "FAST");
  set("VLLM_ROCM_USE_AITER", "0");
}

void Builder::add_backend() {
  if (backend_ == "cpu") add_cpu();
  if (backend_ == "rocm" && has_gfx115x(machine_)) add_gfx115x();
}

void Builder::add_notes() {
  if (options_.n_gpu_layers >= 0) {
    note("n_gpu_layers is left out: vLLM has the whole model on the GPU or on the CPU.");
  }
  if (options_.threads > 0 && backend_ != "cpu") {
    note("threads is left out: vLLM computes on the GPU.");
  }
  if (!options_.mmproj.empty()) {
    note("mmproj is left out: a HuggingFace model has its projector in its directory.");
  }
  if (!options_.reasoning_format.empty() && options_.reasoning_format != "none" &&
      options_.reasoning_format != "auto") {
    note(
        "reasoning_format is left out: name the model's parser in extra_args, as [\"--reasoning-"
        "parser\", \"qwen3\"].");
  }
  if (!options_.rpc_servers.empty()) note("rpc_servers is left out: they are llama.cpp's.");
  if (!options_.jinja) note("jinja is left out: vLLM has no other templates.");
  if (!options_.cont_batching) note("cont_batching is left out: vLLM always does it.");
  if (options_.fit_memory) {
    note("fit_memory is left out: set n_ctx or gpu_memory_utilization.");
  }
}

// `address`: of this machine, where its processes meet.
void Builder::add_environment(std::string_view address) {
  set("VLLM_HOST_IP", std::string(address));
  set("VLLM_NO_USAGE_STATS", "1");
  set("VLLM_DO_NOT_TRACK", "1");
  // The model is here; what it lacks is an error and not a download.
  set("HF_HUB_OFFLINE", "1");
  set("NO_COLOR", "1");
  // Packages of the user's own must not take the place of the environment's.
  set("PYTHONNOUSERSITE", "1");
}

void Builder::add_node(std::size_t rank, std::size_t count, const std::string& head) {
  require("--distributed-executor-backend", "mp");
  // Between machines layers are split, which needs the least traffic.
  if (options_.split_mode == "row") {
    require("--tensor-parallel-size", std::to_string(count));
  } else {
    require("--pipeline-parallel-size", std::to_string(count));
  }
  require("--nnodes", std::to_string(count));
  require("--node-rank", std::to_string(rank));
  require("--master-addr", head);
  require("--master-port", std::to_string(kMasterPort));
  if (rank > 0 && !flag("--headless")) missing_ = "--headless";
}

Result<CommandLine> Builder::finish() {
  if (!missing_.empty()) {
    return fail(
        kEngineUnusable,
        fmt::format("{} can't serve this model: it has no {}.", install_.server.string(), missing_),
        "Install another with `yoke engine install vllm`, or correct vllm in [engines].");
  }
  line_.argv.insert(line_.argv.end(), options_.extra_args.begin(), options_.extra_args.end());
  return std::move(line_);
}

}  // namespace

std::uint64_t vllm_cache_bytes(const LoadOptions& options, std::string_view backend,
                               const Machine* machine) {
  if (options.gpu_memory_utilization > 0) return 0;
  const int cache = cache_gib_of(options, read_hf_config(options.model_path));
  if (backend == "cpu") return gib(cache);
  if (backend == "rocm" && has_gfx115x(machine)) return gib(std::max(cache, kUsualCacheGiB));
  return 0;
}

Result<CommandLine> vllm_command_line(const EngineInstall& install,
                                      const Capabilities& capabilities, const LoadOptions& options,
                                      std::string_view alias, std::uint16_t port,
                                      const Machine* machine) {
  YOKE_CHECK(check_arguments(options.extra_args));
  Builder builder(install, capabilities, options, machine);
  builder.add_endpoint(alias, port);
  builder.add_sizes();
  builder.add_mode();
  builder.add_model_parts(alias);
  builder.add_devices();
  builder.add_backend();
  builder.add_environment("127.0.0.1");
  builder.add_notes();
  return builder.finish();
}

Result<std::vector<CommandLine>> vllm_multi_node(const EngineInstall& install,
                                                 const Capabilities& capabilities,
                                                 const LoadOptions& options, std::string_view alias,
                                                 std::uint16_t port,
                                                 std::span<const std::string> hosts) {
  if (hosts.size() < 2) {
    return fail(kInvalidArgument, "vLLM's multi-node mode needs two machines or more.",
                "Name the addresses of the machines.");
  }
  YOKE_CHECK(check_arguments(options.extra_args));
  std::vector<CommandLine> lines;
  for (std::size_t rank = 0; rank < hosts.size(); ++rank) {
    Builder builder(install, capabilities, options, nullptr);
    if (rank == 0) builder.add_endpoint(alias, port);
    builder.add_sizes();
    builder.add_mode();
    builder.add_model_parts(alias);
    builder.add_backend();
    builder.add_node(rank, hosts.size(), hosts[0]);
    builder.add_environment(hosts[rank]);
    YOKE_TRY(CommandLine line, builder.finish());
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace yoke::engines
