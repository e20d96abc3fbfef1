// What an instance is given, and what it tells of itself. Plain values; on the control loop's
// thread.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include <boost/asio/any_io_executor.hpp>

#include "base/error.h"
#include "config/load_options.h"
#include "contexts/saved_contexts.h"
#include "engines/install.h"
#include "hardware/machine.h"
#include "supervisor/guard.h"
#include "supervisor/history.h"
#include "supervisor/memory_pools.h"

namespace yoke::supervisor {

// Of Instance::error: the engine died, or never came up.
inline constexpr ErrorCode kEngineFailed{"engine_failed"};
// The same: a machine that computes a part of the model is gone.
inline constexpr ErrorCode kWorkerLost{"worker_lost"};

// What all instances share. It must outlive them.
struct InstanceContext {
  boost::asio::any_io_executor executor;
  // How long an engine may make no progress while it has work; 0: for ever.
  std::chrono::milliseconds hang_limit;
  // A model's KV caches are saved when nobody used it for so long; 0: only when it is stopped.
  std::chrono::milliseconds save_after;
  hardware::Machine machine;
  bool gpus_known = false;   // They were looked for.
  hardware::Machine budget;  // The machine with no more memory than models may have.
  History& history;
  Guard* guard = nullptr;
  contexts::SavedContexts* saved_contexts = nullptr;  // If KV caches are kept.
  const MemoryPools* pools = nullptr;                 // Where models are planned into.
  // Where the hashes of weights that RPC servers have are kept.
  std::filesystem::path rpc_hashes{};
};

// How a life of an engine ended.
struct LifeEnd {
  enum class Next {
    kStopped,     // It was told to.
    kStartAgain,  // After `delay`.
    kNeedsMore,   // The same, with more memory.
    kGivenUp,     // Not before somebody asks, and `delay` has passed.
  };
  Next next = Next::kStopped;
  Error error{kEngineFailed, {}, {}};  // None if it was told to.
  std::chrono::milliseconds delay{0};
};

// Called on the control loop's thread.
struct InstanceListener {
  std::function<void()> on_route;  // Every change of route().
  std::function<void()> on_log;    // Every line of the log.
  std::function<void()> on_ready;  // It answers from now on.
  // A better backend can be used again: the next life would be on that.
  std::function<void()> on_better;
  // Other models have memory that it could get.
  std::function<bool()> has_neighbours;
};

// What a life takes at its most, for MemoryPools: the engine's options, and those of the CPU's
// short life before it, if it has one.
struct NextStart {
  engines::EngineKind kind = engines::EngineKind::kLlamaCpp;
  std::string backend;
  config::LoadOptions options;
  std::optional<config::LoadOptions> reference;
};

}  // namespace yoke::supervisor
