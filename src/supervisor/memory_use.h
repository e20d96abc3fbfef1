// What memory an engine's processes really hold, as the system counts it, and the wait until a
// GPU's comes back after them. Any thread; memory_use() blocks: milliseconds, more for large
// processes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "hardware/machine.h"
#include "io/task.h"
#include "scheduler/types.h"
#include "supervisor/memory_pools.h"

namespace yoke::supervisor {

struct GpuUse {
  std::string device;        // Its PCI address, as hardware::Device::id.
  std::uint64_t own = 0;     // Bytes in memory of its own: VRAM, an APU's carve-out.
  std::uint64_t shared = 0;  // In the host's: GTT.
  // By all processes together, both kinds; none where the driver has no such counter.
  std::optional<std::uint64_t> by_all{};
  friend bool operator==(const GpuUse&, const GpuUse&) = default;
};

// Of a process and all its descendants. Bytes.
struct MemoryUse {
  std::uint64_t host = 0;  // Resident; pages that others have too count in part (PSS).
  std::uint64_t kept = 0;  // Of these, what the system can't drop: all but pages of files.
  // By PCI address. Only of GPUs whose driver tells (amdgpu, i915, xe; not NVIDIA's).
  std::vector<GpuUse> gpus{};
  std::uint64_t total() const;  // Without a GPU that is not known.
};

// All 0 if there is no such process. `root` stands for "/".
MemoryUse memory_use(pid_t process, const std::filesystem::path& root = "/");

// For scheduler::MemoryMeasured: what it takes of each pool. Of the host's never less than planned:
// mapped weights come in as they are read, and the engine keeps prompts as it serves. A GPU's is as
// measured; as planned where that is unknown.
scheduler::Needs measured_needs(const MemoryUse& use, const scheduler::Needs& planned,
                                const MemoryPools& pools);

// For an engine on `backend` whose processes are gone: waits until its GPU memory is back, as the
// driver may free it a little later. `last`: what memory_use() said while it ran; without, it waits
// until the drivers' counters have stopped falling. False: not within two seconds. `machine` has to
// outlive it.
io::Task<bool> memory_returned(std::string backend, const hardware::Machine& machine,
                               std::optional<MemoryUse> last = {},
                               std::filesystem::path root = "/");

}  // namespace yoke::supervisor
