// ControlLoop: the one thread that owns all state about models and instances. It tells the
// scheduler what happens and does what that decides. Other threads read the route table that it
// publishes, and call it with tasks that run on its thread. Owned by main, which stops it before it
// goes.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/config.h"
#include "hardware/machine.h"
#include "io/task.h"
#include "store/store.h"
#include "supervisor/admission.h"
#include "supervisor/explanation.h"
#include "supervisor/instance_logs.h"
#include "supervisor/reload.h"
#include "supervisor/residency.h"
#include "supervisor/residents.h"
#include "supervisor/route_table.h"

namespace yoke::supervisor {

class ControlLoop {
 public:
  // Looks at this machine; for GPUs only where it is asked to.
  using Detect = std::function<hardware::Machine(bool gpus)>;

  // Finds the engines and asks them what they can do, and plans the models' memory. Blocks for the
  // moment that takes. kEngineNotFound; kEngineUnusable or kSpawnFailed if none can be used.
  static Result<std::unique_ptr<ControlLoop>> start(const config::Config& config, Detect detect);

  // Begins to load models. Once.
  void launch();
  ~ControlLoop();

  // The present state; any thread.
  std::shared_ptr<const RouteTable> routes() const;

  // A place at the model's engine, as soon as it is loaded and it is this request's turn. Any
  // thread. kModelNotFound with the nearest name, the reason if the model can't be loaded, and what
  // scheduler/effects.h says. Cancel it when the client leaves.
  io::Task<Result<Admission>> admit(std::string model, AdmitOptions options);

  // What memory the models have, and what will happen to them next. Any thread.
  io::Task<Result<Residency>> residency();

  // The user's commands. Any thread; kModelNotFound. They return when they are under way: `load`
  // without waiting for the engine, `unload` without waiting for its end.
  io::Task<Result<void>> load(std::string model);
  io::Task<Result<void>> unload(std::string model);
  io::Task<Result<void>> pin(std::string model);
  io::Task<Result<void>> unpin(std::string model);

  // Takes over another configuration: engines whose options changed start anew once nothing is
  // being answered, the others run on. What of [server] and [contexts] changed is not looked at.
  // Nothing changes after an error. Any thread. As start().
  io::Task<Result<Reload>> reload(config::Config config);

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
  explicit ControlLoop(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;  // Places that are given back late keep it.
};

}  // namespace yoke::supervisor
