// MemoryPools: this machine's memory as the scheduler sees it, and what a model needs of it. A pool
// means the same memory for every model and backend. Plain values, cheap to copy; any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "engines/install.h"
#include "hardware/machine.h"
#include "scheduler/events.h"
#include "scheduler/types.h"

namespace yoke::supervisor {

struct PoolTable;  // Private to memory_pools.cc.

class MemoryPools {
 public:
  // Budgets: what is usable now (planner::Pool::usable), or what the configuration says if that is
  // less than the memory there is. `machine`: as it is when none of Yoke's engines runs.
  MemoryPools(const hardware::Machine& machine, const config::MemoryConfig& config);

  // For the scheduler; 0 is the pool of the host's memory, which an APU's GPU shares. A pool whose
  // size nobody knows is left out, and what models need of it too.
  const std::vector<scheduler::PoolChanged>& pools() const;
  bool has(scheduler::PoolId pool) const;
  // Where the own memory of a GPU is counted (hardware::Device::id); none if that is not known.
  std::optional<scheduler::PoolId> pool_of(std::string_view device) const;
  // What of the configuration is not as it was meant, one sentence each.
  const std::vector<std::string>& notes() const;

  // Planned against the whole budgets, for an engine on `backend`. `options`: with the decisions in
  // it (engines::decide). More than the budgets if it fits into none. Empty where no plan can be
  // made: the engine will say what is wrong. Reads headers of files.
  scheduler::Needs needs_of(engines::EngineKind kind, const std::string& backend,
                            const config::LoadOptions& options) const;

  // `options` with the layers where needs_of() counts them: the engine by itself puts all on the
  // GPU, fit or not, and divides them among GPUs by what is free. What the user set stays. Reads
  // the header of the model.
  config::LoadOptions placed(engines::EngineKind kind, const std::string& backend,
                             config::LoadOptions options) const;

 private:
  std::shared_ptr<const PoolTable> table_;
};

// Of each pool the larger need: for two engines of which one runs after the other.
scheduler::Needs max_of(const scheduler::Needs& a, const scheduler::Needs& b);

}  // namespace yoke::supervisor
