// RouteTable: which models there are and where they answer, as the gateway reads it. The control
// loop publishes a new one at every change; a table never changes. Any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "config/load_options.h"
#include "engines/install.h"
#include "http/client.h"

namespace yoke::supervisor {

enum class InstanceState { kPlanned, kStarting, kChecking, kReady, kDraining, kStopped, kFailed };

// "planned", "starting", ...: stable, for API replies and metrics.
std::string_view name_of(InstanceState state);

// Shared by all versions of an instance's route; the gateway counts, anybody reads.
struct InstanceLoad {
  std::atomic<int> active_requests{0};
  // Requests that wait for the engine to say something, of those that it reports the progress of.
  std::atomic<int> waiting{0};
  // Grows with every piece of an answer to those, and every report of progress.
  std::atomic<std::uint64_t> progress{0};
  std::atomic<std::uint64_t> answers{0};  // Complete ones.
};

struct Route {
  std::string model;
  config::ServerType type = config::ServerType::kLlm;
  InstanceState state = InstanceState::kPlanned;
  http::Endpoint endpoint{};  // Where it answers when ready.
  std::uint64_t start = 0;    // Counts the engine's processes, from 1.
  std::string key{};          // That the engine asks for; secret.
  engines::EngineKind kind = engines::EngineKind::kLlamaCpp;
  std::string engine{};                           // "llama.cpp 0.5.0"
  std::string backend{};                          // "cpu"
  std::string rpc_client{};                       // "pipelined" or "stock", that a running engine
                                                  // took for its RPC servers; "" without any.
  int pid = 0;                                    // 0: no process.
  int restarts = 0;                               // After failures, since Yoke started.
  int n_ctx = 0;                                  // Tokens of context it is started with; 0: all
                                                  // that the model was trained for.
  std::uint64_t planned_bytes = 0;                // Of memory, that it takes, on all devices.
  std::uint64_t held_bytes = 0;                   // That its processes really hold, as the system
                                                  // counts it; 0: none, or nobody looked yet.
  std::uint64_t loads = 0;                        // Engines that became ready, since Yoke started.
  std::uint64_t evictions = 0;                    // How often another model took its place.
  std::chrono::steady_clock::time_point since{};  // When this state began.
  std::optional<Error> error{};                   // Why it failed last; kept while it starts again.
  std::shared_ptr<InstanceLoad> load = std::make_shared<InstanceLoad>();
};

struct RouteTable {
  std::vector<Route> routes;  // In the configuration's order.

  // Null if there is no such model.
  const Route* find(std::string_view model) const;
};

}  // namespace yoke::supervisor
