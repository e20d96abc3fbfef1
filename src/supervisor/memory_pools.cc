#include "supervisor/memory_pools.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/units.h"
#include "engines/model_format.h"
#include "engines/vllm.h"
#include "gguf/model.h"
#include "planner/load_request.h"

namespace yoke::supervisor {
namespace {

namespace fs = std::filesystem;
using Bytes = std::uint64_t;
using config::LoadOptions;
using hardware::Device;
using hardware::Machine;
using planner::Inventory;
using planner::Plan;
using planner::Pool;
using scheduler::Needs;
using scheduler::PoolId;

constexpr PoolId kHost = 0;
constexpr std::string_view kCpu = "cpu";
constexpr std::array<std::string_view, 4> kBackends{"vulkan", "rocm", "cuda", "cpu"};
constexpr Bytes kMiB = Bytes{1} << 20;
// Of memory that nobody knows the size of; sums of it stay far from the largest number.
constexpr Bytes kUnbounded = Bytes{1} << 50;

// What a process takes besides what the planner counts: the program, its vocabulary, and what the
// GPU's driver keeps for it on the host.
constexpr Bytes kServer = 64 * kMiB;
constexpr Bytes kServerWithGpu = 256 * kMiB;
// vLLM is three processes of Python and PyTorch.
constexpr Bytes kVllmServer = 3072 * kMiB;
constexpr double kVllmShare = 0.9;  // Of the GPU's memory, unless the user says otherwise.
constexpr double kVllmWeights = 1.2;

Bytes scaled(Bytes bytes, double factor) {
  return static_cast<Bytes>(static_cast<double>(bytes) * factor);
}

Bytes minus(Bytes from, Bytes amount) { return from > amount ? from - amount : 0; }

Bytes size_of(const fs::path& file) {
  std::error_code error;
  const auto size = fs::file_size(file, error);
  return error ? 0 : std::min<Bytes>(size, kUnbounded);
}

bool contains(const std::vector<std::string>& arguments, std::string_view flag) {
  return std::ranges::find(arguments, flag) != arguments.end();
}

}  // namespace

struct PoolTable {
  // What an engine on it computes with.
  struct Backend {
    std::string name;
    Inventory inventory;                       // Free is all that models may have.
    std::vector<std::optional<PoolId>> pools;  // Of the inventory's.
  };

  Machine machine;
  std::vector<scheduler::PoolChanged> pools;
  std::map<std::string, PoolId, std::less<>> pool_of_device;
  std::vector<Backend> backends;
  std::vector<std::string> notes;
};

namespace {

using Backend = PoolTable::Backend;

// Budgets

// Makes the table of pools out of the inventories of all backends.
class TableMaker {
 public:
  TableMaker(const Machine& machine, const config::MemoryConfig& config)
      : machine_(machine), config_(config) {}

  PoolTable make();

 private:
  void add_host(const std::vector<Inventory>& inventories);
  void add_gpus(const std::vector<Inventory>& inventories);
  void add_pool(PoolId id, const Pool& pool, std::optional<Bytes> configured, const char* key);
  // What engines on a backend may have.
  Backend backend_of(std::string_view name, Inventory inventory) const;
  std::optional<Bytes> reach_of(std::string_view backend, const planner::ComputeDevice& it) const;
  const Device* find(std::string_view id) const;

  const Machine& machine_;
  const config::MemoryConfig& config_;
  PoolTable made_;
};

const Device* TableMaker::find(std::string_view id) const {
  const auto found = std::ranges::find(machine_.devices, id, &Device::id);
  return found == machine_.devices.end() ? nullptr : &*found;
}

std::optional<Bytes> budget_of(const Pool& pool, std::optional<Bytes> configured) {
  if (pool.total == 0) return configured;
  return configured ? std::min(*configured, pool.total) : pool.usable();
}

void TableMaker::add_pool(PoolId id, const Pool& pool, std::optional<Bytes> configured,
                          const char* key) {
  const auto budget = budget_of(pool, configured);
  if (!budget) {
    made_.notes.push_back(fmt::format(
        "How much there is of {} is unknown: what models take of it is not counted, unless {} of "
        "[memory] says how much they may have.",
        pool.name, key));
    return;
  }
  made_.pools.push_back({id, pool.name, *budget});
  if (!configured || pool.total == 0) return;
  if (*configured > pool.total) {
    made_.notes.push_back(fmt::format("{} of [memory] is {}, but {} has only {}: that is taken.",
                                      key, format_memory(*configured), pool.name,
                                      format_memory(pool.total)));
  }
  if (*budget > pool.free) {
    made_.notes.push_back(
        fmt::format("{} of [memory] lets models have {} of {}, of which {} are free now: what else "
                    "runs may leave them too little.",
                    key, format_memory(*budget), pool.name, format_memory(pool.free)));
  }
}

// A GPU of an APU adds its carve-out; an inventory without it has less.
void TableMaker::add_host(const std::vector<Inventory>& inventories) {
  const Pool* largest = &inventories.front().pools.front();
  for (const Inventory& inventory : inventories) {
    if (inventory.pools.front().total > largest->total) largest = &inventory.pools.front();
  }
  add_pool(kHost, *largest, config_.host, "host");
}

void TableMaker::add_gpus(const std::vector<Inventory>& inventories) {
  std::map<std::string, Pool> own;  // By device.
  for (const Inventory& inventory : inventories) {
    for (const planner::ComputeDevice& device : inventory.devices) {
      if (device.pool != 0) own.try_emplace(device.id, inventory.pools[device.pool]);
    }
  }
  if (config_.gpu && own.empty()) {
    made_.notes.emplace_back(
        "gpu of [memory] is of no use: there is no GPU with memory of its own. host is for all.");
  }
  std::map<std::string, int> names;
  for (const auto& [id, pool] : own) ++names[pool.name];
  std::map<std::string, int> numbers;
  PoolId next = kHost + 1;
  for (const Device& device : machine_.devices) {
    const auto found = own.find(device.id);
    if (found == own.end()) continue;
    Pool pool = found->second;
    if (const std::string name = pool.name; names[name] > 1) {
      pool.name = fmt::format("{} #{}'s memory", device.name.value, ++numbers[name]);
    }
    const PoolId id = next++;
    add_pool(id, pool, config_.gpu, "gpu");
    if (budget_of(pool, config_.gpu)) made_.pool_of_device.emplace(device.id, id);
  }
}

// Of a budget that does not follow from what is free, a device maps what it could if all were.
std::optional<Bytes> TableMaker::reach_of(std::string_view backend,
                                          const planner::ComputeDevice& it) const {
  if (!config_.host || !it.reach) return it.reach;
  const Device* device = find(it.id);
  if (device == nullptr) {  // The CPU, which can't have a carve-out.
    const hardware::HostMemory& host = machine_.host.memory;
    if (host.total == 0) return std::nullopt;
    return std::min(host.total, host.limit.value_or(host.total));
  }
  const hardware::MemoryBudget& memory = device->memory;
  const Bytes reach = backend == "rocm"     ? memory.rocm_total
                      : backend == "vulkan" ? memory.vulkan_total
                                            : memory.total;
  return reach > 0 ? std::optional(reach) : std::nullopt;
}

Backend TableMaker::backend_of(std::string_view name, Inventory inventory) const {
  Backend made{.name = std::string(name), .inventory = {}, .pools = {}};
  made.pools.resize(inventory.pools.size());
  for (std::size_t i = 0; i < inventory.pools.size(); ++i) {
    Pool& pool = inventory.pools[i];
    const auto budget = budget_of(pool, i == 0 ? config_.host : config_.gpu);
    if (i == 0 && budget) made.pools[i] = kHost;
    pool.free = budget.value_or(kUnbounded);
    pool.reserve = 0;
  }
  for (planner::ComputeDevice& device : inventory.devices) {
    device.reach = reach_of(name, device);
    if (machine_.host.memory.total == 0 && device.id.empty()) device.reach = std::nullopt;
    const auto own = made_.pool_of_device.find(device.id);
    if (device.pool != 0 && own != made_.pool_of_device.end()) {
      made.pools[device.pool] = own->second;
    }
  }
  made.inventory = std::move(inventory);
  return made;
}

PoolTable TableMaker::make() {
  std::vector<Inventory> inventories;
  for (const std::string_view backend : kBackends) {
    inventories.push_back(planner::inventory_of(machine_, std::string(backend)));
  }
  add_host(inventories);
  add_gpus(inventories);
  for (std::size_t i = 0; i < kBackends.size(); ++i) {
    made_.backends.push_back(backend_of(kBackends[i], std::move(inventories[i])));
  }
  made_.machine = machine_;
  made_.machine.observations.clear();
  return std::move(made_);
}

// Needs

// Bytes by pool of a backend's inventory.
class Tally {
 public:
  explicit Tally(const Backend& backend)
      : backend_(&backend), bytes_(backend.inventory.pools.size()) {}

  void add(std::uint32_t pool, Bytes bytes) { bytes_[pool] += bytes; }
  void add(const Plan& plan) {
    for (const planner::PoolUse& use : plan.pools) add(use.pool, use.planned);
  }
  Bytes of(std::uint32_t pool) const { return bytes_[pool]; }
  // To the budgets.
  void clamp() {
    for (std::size_t i = 0; i < bytes_.size(); ++i) {
      bytes_[i] = std::min(bytes_[i], backend_->inventory.pools[i].usable());
    }
  }
  Needs needs() const {
    Needs needs;
    for (std::size_t i = 0; i < bytes_.size(); ++i) {
      if (backend_->pools[i] && bytes_[i] > 0) needs.push_back({*backend_->pools[i], bytes_[i]});
    }
    std::ranges::sort(needs, {}, &scheduler::Need::pool);
    return needs;
  }

 private:
  const Backend* backend_;
  std::vector<Bytes> bytes_;
};

// The one of that name. An engine whose backend only it knows computes on a GPU, if it can.
const Backend& find_backend(const std::vector<Backend>& backends, std::string_view name) {
  const auto found = std::ranges::find(backends, name, &Backend::name);
  if (found != backends.end()) return *found;
  const auto has_gpu = [](const Backend& it) { return it.inventory.devices.size() > 1; };
  const auto gpu = std::ranges::find_if(backends, has_gpu);
  return gpu != backends.end() && name != kCpu ? *gpu : backends.back();
}

// Without the GPUs that the options leave alone.
Inventory inventory_for(const Backend& backend, const LoadOptions& options) {
  Inventory inventory = backend.inventory;
  if (options.split_mode != "none" || inventory.devices.size() < 3) return inventory;
  const auto gpus = static_cast<int>(inventory.devices.size()) - 1;
  const int kept = options.main_gpu >= 0 && options.main_gpu < gpus ? options.main_gpu : 0;
  planner::ComputeDevice gpu = inventory.devices[static_cast<std::size_t>(kept) + 1];
  inventory.devices.resize(1);
  inventory.devices.push_back(std::move(gpu));
  return inventory;
}

// With the options' RPC servers, in the engine's order of devices (engines/llama_cpp.cc). Their
// memory is none of this machine's, and nobody knows how much there is.
Backend with_rpc_servers(Backend backend, const LoadOptions& options) {
  Inventory& inventory = backend.inventory;
  std::vector<planner::ComputeDevice> servers;
  for (const config::RpcServer& server : options.rpc_servers) {
    servers.push_back({.name = server.name,
                       .backend = std::string(kCpu),
                       .pool = static_cast<std::uint32_t>(inventory.pools.size()),
                       .reach = {},
                       .remote = true});
    inventory.pools.push_back(
        {.name = server.name, .machine = {}, .total = kUnbounded, .free = kUnbounded});
    backend.pools.emplace_back();
  }
  const bool gpu_first = inventory.devices.size() == 2;
  inventory.devices.insert(inventory.devices.begin() + (gpu_first ? 2 : 1), servers.begin(),
                           servers.end());
  return backend;
}

// The engine divides the layers by what is free on each device. Nobody knows that of an RPC server,
// so each device is taken to get as much as the others.
LoadOptions with_shares(LoadOptions options, const Inventory& inventory) {
  const bool here = std::ranges::any_of(
      inventory.devices, [](const auto& device) { return !device.remote && !device.id.empty(); });
  if (!options.rpc_servers.empty() && here && options.tensor_split.empty()) {
    options.tensor_split.assign(inventory.devices.size() - 1, 1.0);
  }
  return options;
}

// A model and where its parts are to go.
struct Placed {
  Inventory inventory;
  std::size_t layers = 0;
  Plan plan;
};

std::optional<Placed> place(const fs::path& file, const LoadOptions& options, Inventory inventory) {
  const auto model = gguf::open_model(file);
  if (!model) return std::nullopt;
  auto shape = planner::shape_of(*model);
  if (!shape) return std::nullopt;
  const std::size_t layers = shape->layers.size();
  const auto request = planner::plan_request(std::move(*shape), options);
  auto plan = planner::make_plan(request, inventory);
  if (!plan) return std::nullopt;
  return Placed{std::move(inventory), layers, std::move(*plan)};
}

// A file's bytes to where the model's weights are, each its part of them.
void add_beside_weights(Tally& tally, const Placed& placed, Bytes bytes) {
  Bytes weights = 0;
  for (const planner::Share& share : placed.plan.shares) weights += share.memory.weights;
  for (const planner::Share& share : placed.plan.shares) {
    const double part =
        weights > 0 ? static_cast<double>(share.memory.weights) / static_cast<double>(weights) : 0;
    tally.add(placed.inventory.devices[share.device].pool, scaled(bytes, part));
  }
}

// The engine has the projector on the first GPU.
void add_projector(Tally& tally, const Placed& placed, const LoadOptions& options) {
  const auto& devices = placed.inventory.devices;
  const bool on_gpu = devices.size() > 1 && !contains(options.extra_args, "--no-mmproj-offload");
  tally.add(on_gpu ? devices[1].pool : 0, size_of(options.mmproj));
}

// It has a context of its own, as long as the model's, in what the model leaves.
void add_draft(Tally& tally, const Placed& placed, const LoadOptions& options) {
  LoadOptions draft = options;
  draft.n_gpu_layers = -1;
  draft.cache_type_k = draft.cache_type_v = "";
  Inventory left = placed.inventory;
  for (std::uint32_t i = 0; i < left.pools.size(); ++i) {
    left.pools[i].free = minus(left.pools[i].free, tally.of(i));
  }
  if (const auto made = place(options.draft_model, draft, std::move(left))) tally.add(made->plan);
}

Needs llama_needs(const Backend& own, const LoadOptions& asked) {
  const Backend backend = with_rpc_servers(own, asked);
  const LoadOptions options = with_shares(asked, backend.inventory);
  const auto placed = place(options.model_path, options, inventory_for(backend, options));
  if (!placed) return {};
  Tally tally(backend);
  tally.add(placed->plan);
  tally.add(0, own.inventory.devices.size() > 1 ? kServerWithGpu : kServer);
  if (!options.mmproj.empty()) add_projector(tally, *placed, options);
  for (const fs::path& adapter : options.lora) {
    add_beside_weights(tally, *placed, size_of(adapter));
  }
  if (options.server_type == config::ServerType::kLlm) {
    tally.add(0, std::min(options.cache_ram.value_or(0), kUnbounded));
  }
  if (!options.draft_model.empty()) add_draft(tally, *placed, options);
  // Then the engine takes less of what does not fit.
  if (options.fit_memory) tally.clamp();
  return tally.needs();
}

// The GPUs of the inventory that vLLM computes on.
std::vector<std::size_t> gpus_of_vllm(const Inventory& inventory, const LoadOptions& options) {
  const std::size_t gpus = inventory.devices.size() - 1;
  if (gpus == 0) return {};
  const auto main = static_cast<std::size_t>(std::max(options.main_gpu, 0));
  if (options.main_gpu >= 0) return {main < gpus ? main + 1 : 1};
  const bool all = options.split_mode == "row" || options.split_mode == "layer";
  std::vector<std::size_t> chosen;
  for (std::size_t i = 1; i <= (all ? gpus : 1); ++i) chosen.push_back(i);
  return chosen;
}

// It takes a part of a GPU whatever the model. A little more than the budget is the budget: what is
// left to the driver is in vLLM's part too.
Bytes vllm_part(const Pool& pool, Bytes total, double share) {
  const Bytes part = scaled(total, share);
  return part <= pool.usable() + planner::kGpuReserve ? std::min(part, pool.usable()) : part;
}

Needs vllm_needs(const Backend& backend, const LoadOptions& options, const Machine& machine) {
  const Bytes weights = engines::weights_bytes(options.model_path);
  if (weights == 0) return {};
  const Inventory& inventory = backend.inventory;
  const std::vector<std::size_t> gpus = gpus_of_vllm(inventory, options);
  const bool set = options.gpu_memory_utilization > 0;
  const double share = set ? options.gpu_memory_utilization : kVllmShare;
  const Bytes cache = engines::vllm_cache_bytes(options, backend.name, &machine);
  Tally tally(backend);
  tally.add(0, kVllmServer);
  if (cache > 0) {
    tally.add(gpus.empty() ? 0 : inventory.devices[gpus.front()].pool,
              scaled(weights, kVllmWeights) + cache);
    return tally.needs();
  }
  if (gpus.empty()) tally.add(0, scaled(inventory.pools.front().total, share));
  for (const std::size_t gpu : gpus) {
    const planner::ComputeDevice& device = inventory.devices[gpu];
    const Pool& pool = inventory.pools[device.pool];
    tally.add(device.pool, vllm_part(pool, device.reach.value_or(pool.total), share));
  }
  return tally.needs();
}

}  // namespace

MemoryPools::MemoryPools(const Machine& machine, const config::MemoryConfig& config)
    : table_(std::make_shared<const PoolTable>(TableMaker(machine, config).make())) {}

const std::vector<scheduler::PoolChanged>& MemoryPools::pools() const { return table_->pools; }

bool MemoryPools::has(PoolId pool) const {
  return std::ranges::find(table_->pools, pool, &scheduler::PoolChanged::pool) !=
         table_->pools.end();
}

std::optional<PoolId> MemoryPools::pool_of(std::string_view device) const {
  const auto own = table_->pool_of_device.find(device);
  if (own != table_->pool_of_device.end()) return own->second;
  const auto found = std::ranges::find(table_->machine.devices, device, &Device::id);
  const bool unified = found != table_->machine.devices.end() && found->memory.unified;
  return unified && has(kHost) ? std::optional(kHost) : std::nullopt;
}

const std::vector<std::string>& MemoryPools::notes() const { return table_->notes; }

Needs MemoryPools::needs_of(engines::EngineKind kind, const std::string& backend,
                            const LoadOptions& options) const {
  const Backend& found = find_backend(table_->backends, backend);
  if (kind == engines::EngineKind::kVllm) return vllm_needs(found, options, table_->machine);
  return llama_needs(found, options);
}

LoadOptions MemoryPools::placed(engines::EngineKind kind, const std::string& backend,
                                LoadOptions options) const {
  const Inventory inventory = inventory_for(find_backend(table_->backends, backend), options);
  const std::size_t gpus = inventory.devices.size() - 1;
  const bool by_layers =
      options.split_mode.empty() || options.split_mode == "layer" || options.split_mode == "none";
  if (kind != engines::EngineKind::kLlamaCpp || gpus == 0 || !by_layers || options.fit_memory ||
      !options.rpc_servers.empty()) {
    return options;
  }
  const auto made = place(options.model_path, options, inventory);
  if (!made || !made->plan.fits) return options;
  if (options.n_gpu_layers < 0 && made->plan.gpu_layers <= made->layers) {
    options.n_gpu_layers = static_cast<int>(made->plan.gpu_layers);
  }
  if (gpus > 1 && options.tensor_split.empty()) {
    for (const std::uint32_t part : planner::tensor_split_of(made->plan, made->inventory)) {
      options.tensor_split.push_back(part);
    }
  }
  return options;
}

Needs max_of(const Needs& a, const Needs& b) {
  Needs made = a;
  for (const scheduler::Need& need : b) {
    const auto found = std::ranges::find(made, need.pool, &scheduler::Need::pool);
    if (found == made.end()) {
      made.push_back(need);
    } else {
      found->bytes = std::max(found->bytes, need.bytes);
    }
  }
  std::ranges::sort(made, {}, &scheduler::Need::pool);
  return made;
}

}  // namespace yoke::supervisor
