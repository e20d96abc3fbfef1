#include "planner/inventory.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/units.h"

namespace yoke::planner {
namespace {

using Bytes = std::uint64_t;
using config::DescribedGpu;
using config::DescribedMachine;
using hardware::BackendVerdict;
using hardware::Device;
using hardware::Machine;

constexpr std::string_view kCpu = "cpu";

Bytes minus(Bytes from, Bytes amount) { return from > amount ? from - amount : 0; }

// "strix-1: Radeon 8060S"; without a machine only what it is.
std::string of_machine(const std::string& machine, const std::string& what) {
  return machine.empty() ? what : machine + ": " + what;
}

// Puts pools and devices into an inventory.
class Builder {
 public:
  std::uint32_t add_pool(Pool pool) {
    made_.pools.push_back(std::move(pool));
    return static_cast<std::uint32_t>(made_.pools.size() - 1);
  }
  void add_device(ComputeDevice device) { made_.devices.push_back(std::move(device)); }
  void note(std::string text) { made_.notes.push_back(std::move(text)); }
  Inventory take() {
    number_names_that_meet();
    return std::move(made_);
  }

 private:
  void number_names_that_meet() {
    std::vector<std::string> names;
    for (const ComputeDevice& device : made_.devices) names.push_back(device.name);
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (std::ranges::count(names, names[i]) == 1) continue;
      const auto before = std::count(names.begin(), names.begin() + static_cast<long>(i), names[i]);
      made_.devices[i].name += fmt::format(" #{}", before + 1);
    }
  }

  Inventory made_;
};

// This machine

bool usable_through(const Device& device, std::string_view backend) {
  return std::ranges::any_of(device.backends, [&](const BackendVerdict& verdict) {
    return verdict.usable && hardware::name_of(verdict.backend) == backend;
  });
}

// As llama.cpp takes them: integrated GPUs only where there are no others.
std::vector<const Device*> gpus_of(const Machine& machine, std::string_view backend,
                                   Builder& builder) {
  std::vector<const Device*> own_memory;
  std::vector<const Device*> unified;
  for (const Device& device : machine.devices) {
    if (!usable_through(device, backend)) continue;
    (device.memory.unified ? unified : own_memory).push_back(&device);
  }
  if (own_memory.empty()) return unified;
  for (const Device* device : unified) {
    builder.note(fmt::format(
        "{} is left alone: llama.cpp takes an integrated GPU only where there is no other.",
        device->name.value));
  }
  return own_memory;
}

Bytes free_carve_out(const Device& device) {
  const auto& used = device.memory_facts.vram_used;
  return minus(device.memory.carve_out.value_or(0), used ? used->value : 0);
}

// What a GPU in the host's memory can still map of it. ROCm takes its memory from the carve-out or
// from GTT, never from both (kernel commit 759e764f7d58).
Bytes reach_of(const Device& device, std::string_view backend) {
  const hardware::MemoryBudget& memory = device.memory;
  if (backend != "rocm" || !memory.carve_out || !memory.gtt) return memory.free;
  const Bytes carve_out = free_carve_out(device);
  return *memory.gtt > *memory.carve_out ? minus(memory.free, carve_out) : carve_out;
}

Pool host_pool(const Machine& machine, const std::vector<const Device*>& gpus) {
  const hardware::HostMemory& host = machine.host.memory;
  Pool pool{.name = "system memory", .machine = {}, .total = host.total, .free = host.available};
  if (host.limit) pool.total = std::min(pool.total, *host.limit);
  for (const Device* device : gpus) {
    if (!device->memory.unified) continue;
    pool.name = "unified memory";
    pool.total += device->memory.carve_out.value_or(0);
    pool.free += free_carve_out(*device);
  }
  pool.reserve = default_reserve(pool.total);
  return pool;
}

void add_gpu(Builder& builder, const Device& device, const std::string& backend) {
  ComputeDevice made{
      .name = device.name.value, .backend = backend, .pool = 0, .reach = {}, .id = device.id};
  if (device.memory.unified) {
    made.reach = reach_of(device, backend);
  } else {
    made.pool = builder.add_pool({.name = made.name + "'s memory",
                                  .machine = {},
                                  .total = device.memory.total,
                                  .free = device.memory.free,
                                  .reserve = kGpuReserve});
  }
  for (const std::string& note : device.memory.notes) {
    builder.note(fmt::format("{}: {}", made.name, note));
  }
  builder.add_device(std::move(made));
}

// Described machines

std::vector<const DescribedGpu*> gpus_of(const DescribedMachine& machine, Builder& builder) {
  std::vector<const DescribedGpu*> own_memory;
  std::vector<const DescribedGpu*> unified;
  for (const DescribedGpu& gpu : machine.gpus) (gpu.unified ? unified : own_memory).push_back(&gpu);
  if (own_memory.empty()) return unified;
  for (const DescribedGpu* gpu : unified) {
    builder.note(fmt::format(
        "{} is left alone: llama.cpp takes an integrated GPU only where there is no other.",
        of_machine(machine.name, gpu->name)));
  }
  return own_memory;
}

Pool host_pool(const DescribedMachine& machine) {
  const bool unified = std::ranges::any_of(machine.gpus, &DescribedGpu::unified);
  return {.name = of_machine(machine.name, unified ? "unified memory" : "system memory"),
          .machine = machine.name,
          .total = machine.memory,
          .free = machine.memory,
          .reserve = machine.reserve.value_or(default_reserve(machine.memory))};
}

ComputeDevice cpu_of(const DescribedMachine& machine, std::uint32_t pool) {
  return {.name = of_machine(machine.name, "CPU"),
          .backend = std::string(kCpu),
          .pool = pool,
          .reach = {}};
}

void add_gpu(Builder& builder, const DescribedMachine& machine, const DescribedGpu& gpu,
             std::uint32_t host, bool remote) {
  ComputeDevice made{.name = of_machine(machine.name, gpu.name),
                     .backend = gpu.backend,
                     .pool = host,
                     .reach = {},
                     .remote = remote};
  if (gpu.unified) {
    made.reach = gpu.memory;
  } else {
    const Bytes memory = gpu.memory.value_or(0);
    made.pool = builder.add_pool({.name = made.name + "'s memory",
                                  .machine = machine.name,
                                  .total = memory,
                                  .free = memory,
                                  .reserve = kGpuReserve});
  }
  builder.add_device(std::move(made));
}

void add_gpus(Builder& builder, const DescribedMachine& machine, std::uint32_t host, bool remote) {
  const std::vector<const DescribedGpu*> gpus = gpus_of(machine, builder);
  for (const DescribedGpu* gpu : gpus) add_gpu(builder, machine, *gpu, host, remote);
  if (!remote || !gpus.empty()) return;
  ComputeDevice cpu = cpu_of(machine, host);
  cpu.remote = true;
  builder.add_device(std::move(cpu));
}

}  // namespace

std::uint64_t Inventory::usable(std::uint32_t device) const {
  const Bytes pool = pools[devices[device].pool].usable();
  return std::min(devices[device].reach.value_or(pool), pool);
}

std::uint64_t default_reserve(std::uint64_t memory) {
  constexpr Bytes kLeast = Bytes{1} << 30;
  return std::min(std::max(kLeast, memory / 50), memory / 8);
}

Inventory inventory_of(const Machine& machine, const std::string& backend) {
  Builder builder;
  const std::vector<const Device*> gpus =
      backend == kCpu ? std::vector<const Device*>{} : gpus_of(machine, backend, builder);
  const hardware::HostMemory& host = machine.host.memory;
  const std::uint32_t pool = builder.add_pool(host_pool(machine, gpus));
  builder.add_device(
      {.name = "CPU", .backend = std::string(kCpu), .pool = pool, .reach = host.available});
  for (const Device* device : gpus) add_gpu(builder, *device, backend);
  if (host.total == 0) builder.note("How much memory the system has is unknown.");
  if (host.limit) {
    builder.note(fmt::format("The container's memory limit is {}.", format_memory(*host.limit)));
  }
  return builder.take();
}

Inventory inventory_of(const config::MachinesFile& machines) {
  Builder builder;
  std::vector<std::uint32_t> pools;
  for (const DescribedMachine& machine : machines.machines) {
    pools.push_back(builder.add_pool(host_pool(machine)));
  }
  const auto& all = machines.machines;
  if (all.empty()) return builder.take();
  builder.add_device(cpu_of(all.front(), pools.front()));
  for (std::size_t i = 1; i < all.size(); ++i) add_gpus(builder, all[i], pools[i], true);
  add_gpus(builder, all.front(), pools.front(), false);
  return builder.take();
}

}  // namespace yoke::planner
