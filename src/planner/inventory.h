// Inventory: what there is to place a model on: pools of memory and the devices that compute in
// them. Values; pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/machines_file.h"
#include "hardware/machine.h"

namespace yoke::planner {

// Memory that is one budget: a GPU's own, the host's, or on an APU both together.
struct Pool {
  std::string name;     // "strix-1: unified memory"
  std::string machine;  // "strix-1"; empty for this one.
  std::uint64_t total = 0;
  std::uint64_t free = 0;     // Bytes, with what else runs taken off.
  std::uint64_t reserve = 0;  // Of `free`, left to the system.
  std::uint64_t usable() const { return free > reserve ? free - reserve : 0; }
};

struct ComputeDevice {
  std::string name;                    // "strix-1: Radeon 8060S"
  std::string backend;                 // "vulkan", "rocm", "cuda", "cpu"
  std::uint32_t pool = 0;              // Index into Inventory::pools.
  std::optional<std::uint64_t> reach;  // Bytes of the pool that this device can map at most.
  bool remote = false;                 // On another machine than the engine's.
  std::string id{};                    // hardware::Device::id, of a GPU of this machine.
};

struct Inventory {
  std::vector<Pool> pools;
  // Device 0 is the CPU of the machine that runs the engine; layers go to it last. Behind it, in
  // the order in which llama.cpp gives out layers: those of other machines, then its own GPUs.
  std::vector<ComputeDevice> devices;
  std::vector<std::string> notes;
  // What a device can have at most: its reach, or all of its pool.
  std::uint64_t usable(std::uint32_t device) const;
};

// What of a system's memory a plan leaves alone where nobody says how much: 1 GiB, as llama.cpp's
// --fit-target does, or 2 %, as the kernel's own tables grow with the memory; of a small system an
// eighth at most.
std::uint64_t default_reserve(std::uint64_t memory);

// What of a GPU's own memory: for the driver's context, which no engine counts. CUDA's takes 300 to
// 500 MiB.
inline constexpr std::uint64_t kGpuReserve = std::uint64_t{512} << 20;

// Of this machine, for one backend: "cpu", or that of its GPUs.
Inventory inventory_of(const hardware::Machine& machine, const std::string& backend);

// Of machines that are described; the first runs the engine, the others work for it.
Inventory inventory_of(const config::MachinesFile& machines);

}  // namespace yoke::planner
