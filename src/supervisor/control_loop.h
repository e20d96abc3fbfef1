// ControlLoop: the one thread that owns all state about models and instances. Other threads read
// the route table it publishes, and call it with tasks that run on its thread.
// Owned by main, which stops it before it goes.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/config.h"
#include "hardware/machine.h"
#include "http/client.h"
#include "io/task.h"
#include "store/store.h"
#include "supervisor/explanation.h"
#include "supervisor/route_table.h"

namespace yoke::supervisor {

// Errors of await_ready.
inline constexpr ErrorCode kModelNotFound{"model_not_found"};
inline constexpr ErrorCode kModelLoading{"model_loading"};
inline constexpr ErrorCode kShuttingDown{"shutting_down"};

// A line of an engine's output.
struct LogEntry {
  std::string model;
  std::uint64_t seq = 0;  // Counts the lines of this model.
  std::chrono::system_clock::time_point time;
  std::string line;
};

// The lines that a reader of logs has seen: the last number by model.
using LogCursor = std::map<std::string, std::uint64_t>;

// An engine that answers.
struct ReadyEngine {
  http::Endpoint endpoint;
  std::string key{};  // That it asks for; secret.
  engines::EngineKind kind = engines::EngineKind::kLlamaCpp;
  std::uint64_t start = 0;  // Route::start of its process.
  std::shared_ptr<InstanceLoad> load{};
};

class ControlLoop {
 public:
  // Finds the engines and asks them what they can do; `detect` is called if the choice between them
  // needs it. Blocks for the moment that takes. kEngineNotFound; kEngineUnusable or kSpawnFailed if
  // none can be used.
  static Result<std::unique_ptr<ControlLoop>> start(const config::Config& config,
                                                    std::function<hardware::Machine()> detect);

  // Begins to start every model of the configuration. Once.
  void launch();
  ~ControlLoop();

  // The present state; any thread.
  std::shared_ptr<const RouteTable> routes() const;

  // Where the model answers, once it does. Any thread. kModelNotFound with the nearest name; the
  // reason if it has failed for good; kModelLoading after `limit`. `failed_start`: the process that
  // broke an answer off just now. If it died, as is likely, its end is waited for.
  io::Task<Result<ReadyEngine>> await_ready(std::string model, std::chrono::milliseconds limit,
                                            std::uint64_t failed_start = 0);

  // The lines beyond the cursor, of one model or of all (empty name), oldest first, and moves the
  // cursor. If there is none, waits for one, `limit` at most. Any thread. kModelNotFound,
  // kShuttingDown if no more will come.
  io::Task<Result<std::vector<LogEntry>>> next_logs(std::string model, LogCursor& cursor,
                                                    std::chrono::milliseconds limit);
  // The last lines that are there, and moves the cursor behind them. Any thread.
  io::Task<Result<std::vector<LogEntry>>> last_logs(std::string model, LogCursor& cursor,
                                                    std::size_t count);

  // An engine answered that it can't compute any more, but lives (the GPU is lost to it): it is
  // ended, and what follows is as if it had died. Nothing happens if another one runs by now. Any
  // thread.
  void report_broken(const std::string& model, std::uint64_t start, const std::string& message);

  // Any thread. kModelNotFound.
  io::Task<Result<Explanation>> explain(std::string model);
  // Those that are not over, of all models with their engines as they are now. Any thread.
  io::Task<Result<std::vector<store::Quarantine>>> quarantines();
  // Of one model and backend, or of all where that is empty. How many there were. Any thread.
  // kModelNotFound.
  io::Task<Result<std::size_t>> clear_quarantines(std::string model, std::string backend);

  // Ends every wait for a model or for log lines with kShuttingDown; engines go on with what they
  // are asked. Any thread.
  void end_waits();

  // Ends all engines, `grace` for each, side by side. Blocks; from any thread but its own, once.
  void stop(std::chrono::milliseconds grace);

 private:
  struct Impl;
  explicit ControlLoop(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace yoke::supervisor
