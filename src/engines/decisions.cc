#include "engines/decisions.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <thread>

#include <fmt/format.h>

#include "engines/model_file.h"

namespace yoke::engines {
namespace {

using config::FlashAttention;
using config::LoadOptions;
using config::ServerType;

constexpr std::string_view kCpu = "cpu";

// An engine looks for clients that have left between two batches. Two cores compute 64 tokens of a
// small model in a quarter of a second; 128 are not faster there, and 512 by a fifth. Sixteen cores
// read prompts three times as fast with 512 as with 64.
constexpr int kCpuBatchPerThread = 32;
constexpr int kLeastCpuBatch = 64;
constexpr int kMostCpuBatch = 512;
constexpr int kBatch = 2048;
// Workers compute parts of one prompt at the same time if it comes to them in several pieces.
constexpr int kWorkersBatch = 512;
// After the device was lost with the usual ones.
constexpr int kSmallerBatch = 128;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
// What llama-server takes for prompts that it has read before, whatever memory there is.
constexpr std::uint64_t kMostCacheRam = 8192 * kMiB;
constexpr std::uint64_t kLeastCacheRam = 256 * kMiB;
constexpr std::uint64_t kCacheRamPart = 32;             // Of the host's memory.
constexpr std::uint64_t kCacheRamUnasked = 512 * kMiB;  // Where that is not known.

// What a known fact may depend on.
struct Case {
  const LoadOptions& options;
  std::string_view backend;
  const hardware::Machine* machine;
};

bool is_llm(const Case& it) { return it.options.server_type == ServerType::kLlm; }

template <class Predicate>
bool has_device(const Case& it, Predicate predicate) {
  return it.machine != nullptr &&
         std::ranges::any_of(it.machine->devices, [&](const hardware::Device& device) {
           return !device.software && predicate(device);
         });
}

bool has_quantized_v(const Case& it) { return config::is_quantized(it.options.cache_type_v); }

bool takes_whole_texts(const Case& it) { return !is_llm(it); }

bool is_radv_on_strix(const Case& it) {
  return it.backend == "vulkan" && is_llm(it) && has_device(it, [](const hardware::Device& device) {
           return device.gfx && device.gfx->value.starts_with("gfx115");
         });
}

bool has_unified_memory(const Case& it) {
  return it.backend != kCpu &&
         has_device(it, [](const hardware::Device& device) { return device.memory.unified; });
}

bool has_workers(const Case& it) { return !it.options.rpc_servers.empty(); }

bool has_stock_rpc(const Case& it) {
  return has_workers(it) && it.options.rpc_client == config::RpcClient::kStock;
}

// A Vulkan driver that computes on the processor is as slow as that.
bool computes_on_processor(const Case& it) {
  if (has_workers(it)) return false;
  if (it.backend == kCpu) return true;
  return it.machine != nullptr && !it.machine->devices.empty() &&
         std::ranges::all_of(it.machine->devices, &hardware::Device::software);
}

// A power of two.
int cpu_batch(const Case& it) {
  double threads = it.options.threads;
  if (threads <= 0 && it.machine != nullptr) threads = it.machine->host.cpu.usable_threads;
  if (threads <= 0) threads = std::thread::hardware_concurrency();
  int batch = kLeastCpuBatch;
  while (batch < kMostCpuBatch && batch * 2 <= threads * kCpuBatchPerThread) batch *= 2;
  return batch;
}

// What is published about engines and drivers, and certain enough to go by.
struct KnownFact {
  std::string_view setting;
  std::string_view value;
  bool (*holds)(const Case&);
  std::string_view why;
  std::string_view source;
};

constexpr std::array kKnownFacts{
    KnownFact{"flash_attn", "on", has_quantized_v,
              "A quantized cache_type_v needs flash attention, on this backend too.",
              "llama.cpp: \"quantized V cache requires flash_attn to be enabled\""},
    KnownFact{"n_ubatch", "2048", takes_whole_texts,
              "A text is taken in one batch or not at all, so it must fit into one.",
              "llama.cpp: \"input is too large to process. increase the physical batch size\""},
    KnownFact{"n_ubatch", "1024", is_radv_on_strix,
              "RADV reads prompts fastest with at most 1024 tokens at once here, and long batches "
              "run into the kernel's watchdog.",
              "hogeheer499-commits/strix-halo-guide; llama.cpp #27306"},
    KnownFact{"fit_memory", "false", has_unified_memory,
              "Where the GPU uses the host's memory, the engine does not count that when it fits "
              "its options.",
              "llama.cpp #22592, #22922"},
    KnownFact{"cache_ram", "0", has_stock_rpc,
              "To read a worker's part of what is kept has ended the whole engine.",
              "llama.cpp #26529, #26128"}};

const KnownFact* known_fact(std::string_view setting, const Case& it) {
  const auto found = std::ranges::find_if(kKnownFacts, [&](const KnownFact& fact) {
    return fact.setting == setting && fact.holds(it);
  });
  return found == kKnownFacts.end() ? nullptr : &*found;
}

Decision by_fact(const KnownFact& fact) {
  return {std::string(fact.setting), std::string(fact.value), DecidedBy::kKnownFact,
          std::string(fact.why), std::string(fact.source)};
}

Decision by_user(std::string setting, std::string value) {
  return {std::move(setting), std::move(value), DecidedBy::kUser, "The configuration says so.", ""};
}

Decision by_default(std::string setting, std::string value, std::string why) {
  return {std::move(setting), std::move(value), DecidedBy::kDefault, std::move(why), ""};
}

Decision flash_attention(const Case& it) {
  const FlashAttention mode = it.options.flash_attn;
  if (mode != FlashAttention::kAuto) return by_user("flash_attn", std::string(name_of(mode)));
  if (const KnownFact* fact = known_fact("flash_attn", it)) return by_fact(*fact);
  return by_default("flash_attn", "auto",
                    "The engine finds out at its start whether the backend can compute it.");
}

// How many tokens are computed at once, if the user says nothing.
Decision physical_batch(const Case& it, bool smaller) {
  if (smaller && is_llm(it)) {
    return {"n_ubatch", std::to_string(kSmallerBatch), DecidedBy::kMeasured,
            "The device was lost with larger batches on this machine.", "llama.cpp #21724, #25664"};
  }
  if (has_workers(it) && is_llm(it)) {
    return by_default("n_ubatch", std::to_string(kWorkersBatch),
                      "Workers compute at the same time where a prompt comes in several pieces.");
  }
  if (const KnownFact* fact = known_fact("n_ubatch", it)) return by_fact(*fact);
  if (computes_on_processor(it)) {
    return by_default("n_ubatch", std::to_string(cpu_batch(it)),
                      "So many threads are hardly faster with more, and an engine notices a client "
                      "that left only between two batches.");
  }
  return by_default("n_ubatch", std::to_string(kBatch), "A GPU reads prompts faster with more.");
}

int number_of(const Decision& decision) {
  int number = 0;
  std::from_chars(decision.value.data(), decision.value.data() + decision.value.size(), number);
  return number;
}

// What the user leaves open of the two follows what he sets: n_ubatch is never more than n_batch.
void decide_batches(const Case& it, bool smaller, LoadDecisions& made) {
  const int batch = it.options.n_batch;
  const int ubatch = it.options.n_ubatch;
  Decision physical =
      ubatch > 0 ? by_user("n_ubatch", std::to_string(ubatch)) : physical_batch(it, smaller);
  if (ubatch == 0 && batch > 0 && physical.by != DecidedBy::kMeasured) {
    physical = by_default("n_ubatch", std::to_string(batch), "As many as n_batch.");
  } else if (batch > 0 && number_of(physical) > batch) {
    physical.value = std::to_string(batch);
  }
  made.options.n_ubatch = number_of(physical);

  Decision logical = by_user("n_batch", std::to_string(batch));
  if (batch == 0) {
    const bool one_by_one = physical.by == DecidedBy::kMeasured || computes_on_processor(it);
    const int usual = one_by_one && is_llm(it) ? made.options.n_ubatch : kBatch;
    logical = by_default("n_batch", std::to_string(std::max(usual, made.options.n_ubatch)),
                         "What is computed at once, or more of it.");
  }
  made.options.n_batch = number_of(logical);
  made.decisions.push_back(std::move(logical));
  made.decisions.push_back(std::move(physical));
}

Decision fit_memory(const Case& it) {
  if (it.options.fit_memory) return by_user("fit_memory", "true");
  if (const KnownFact* fact = known_fact("fit_memory", it)) return by_fact(*fact);
  return by_default("fit_memory", "false",
                    "What is configured is what runs, or the model fails to load.");
}

Decision memory_lock(const Case& it) {
  if (!it.options.mlock) return by_user("mlock", "false");
  if (has_workers(it)) {
    return by_default("mlock", "false", "The weights lie in the memory of RPC servers.");
  }
  return by_default("mlock", "true",
                    "A model that is swapped out answers many times slower than one in memory.");
}

std::string mebibytes(std::uint64_t bytes) {
  return bytes < kMiB ? "0" : fmt::format("{}MiB", bytes / kMiB);
}

// In MiB, as the engine takes it. What stands in extra_args comes last on its command line.
std::optional<std::int64_t> cache_ram_argument(const LoadOptions& options) {
  std::optional<std::int64_t> found;
  const auto& arguments = options.extra_args;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    std::string_view value = arguments[i];
    const std::string_view flag = value.substr(0, value.find('='));
    if (flag != "--cache-ram" && flag != "-cram") continue;
    value.remove_prefix(flag.size());
    if (!value.empty()) value.remove_prefix(1);
    if (value.empty() && i + 1 < arguments.size()) value = arguments[i + 1];
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error == std::errc() && end == value.data() + value.size()) found = number;
  }
  return found;
}

std::uint64_t usual_cache_ram(const Case& it) {
  if (it.machine == nullptr) return kCacheRamUnasked;
  const hardware::HostMemory& memory = it.machine->host.memory;
  const std::uint64_t all = std::min(memory.total, memory.limit.value_or(memory.total));
  if (all == 0) return kCacheRamUnasked;
  // A small model reads its prompts again soon enough.
  const std::uint64_t weights = model_file_bytes(it.options.model_path);
  const std::uint64_t most = weights == 0 ? kMostCacheRam : std::max(weights, kLeastCacheRam);
  return std::min({kMostCacheRam, most, all / kCacheRamPart}) / kMiB * kMiB;
}

Decision cache_ram(const Case& it, std::uint64_t& bytes) {
  constexpr std::int64_t kMostMiB = std::int64_t{1} << 30;
  // A negative number is no limit: that can't be planned.
  if (const auto mib = cache_ram_argument(it.options); mib && *mib >= 0) {
    bytes = static_cast<std::uint64_t>(std::min(*mib, kMostMiB)) * kMiB;
    return {"cache_ram", mebibytes(bytes), DecidedBy::kUser, "It is in extra_args.", ""};
  }
  if (it.options.cache_ram) {
    bytes = *it.options.cache_ram;
    return by_user("cache_ram", mebibytes(bytes));
  }
  if (const KnownFact* fact = known_fact("cache_ram", it)) {
    bytes = 0;
    return by_fact(*fact);
  }
  bytes = is_llm(it) ? usual_cache_ram(it) : 0;
  return by_default("cache_ram", mebibytes(bytes),
                    bytes == 0
                        ? "Only a chat goes on with a prompt that was read before."
                        : "A chat that goes on need not be read again; the engine's own 8 GiB "
                          "may be more than this machine can spare.");
}

Decision rpc_client(const LoadOptions& options) {
  const std::string name(config::name_of(options.rpc_client));
  if (options.rpc_client != config::RpcClient::kPipelined) return by_user("rpc_client", name);
  return by_default("rpc_client", name, "With it workers compute at the same time.");
}

Decision gpu_layers(const Case& it) {
  const int layers = it.options.n_gpu_layers;
  if (layers >= 0) return by_user("n_gpu_layers", std::to_string(layers));
  return by_default("n_gpu_layers", "-1", "All of them: layers on the CPU slow the others down.");
}

}  // namespace

std::string_view name_of(DecidedBy by) {
  switch (by) {
    case DecidedBy::kUser:
      return "user";
    case DecidedBy::kMeasured:
      return "measured";
    case DecidedBy::kKnownFact:
      return "known_fact";
    case DecidedBy::kDefault:
      return "default";
  }
  return "unknown";
}

LoadDecisions decide(const LoadOptions& options, std::string_view backend,
                     const hardware::Machine* machine, bool smaller) {
  const Case it{options, backend, machine};
  LoadDecisions made{options, {}};
  made.decisions.push_back(flash_attention(it));
  if (made.decisions.back().value == name_of(FlashAttention::kOn)) {
    made.options.flash_attn = FlashAttention::kOn;
  }
  decide_batches(it, smaller, made);
  made.decisions.push_back(fit_memory(it));
  made.decisions.push_back(memory_lock(it));
  made.options.mlock = made.decisions.back().value == "true";
  made.decisions.push_back(cache_ram(it, made.options.cache_ram.emplace(0)));
  if (backend != kCpu || has_workers(it)) made.decisions.push_back(gpu_layers(it));
  if (config::uses_rpc(options)) made.decisions.push_back(rpc_client(options));
  return made;
}

}  // namespace yoke::engines
