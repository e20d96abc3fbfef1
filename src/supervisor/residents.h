// Residents: the models of the configuration with their instances. Tells the scheduler what happens
// to them, does what it decides, and holds the requests that wait for it.
// Owned by the control loop; all calls on its thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/steady_timer.hpp>

#include "base/result.h"
#include "config/config.h"
#include "io/context_pool.h"
#include "io/task.h"
#include "io/task_group.h"
#include "io/wait_list.h"
#include "scheduler/scheduler.h"
#include "supervisor/admission.h"
#include "supervisor/instance.h"
#include "supervisor/memory_pools.h"
#include "supervisor/reload.h"
#include "supervisor/residency.h"
#include "supervisor/route_table.h"

namespace yoke::supervisor {

inline constexpr ErrorCode kShuttingDown{"shutting_down"};

class Residents {
 public:
  struct Listener {
    std::function<void()> on_route;  // Something in routes() is another.
    std::function<void()> on_log;    // A line of an engine's log.
  };
  struct Wanted {
    config::ModelConfig config;
    EngineChoice choice;
  };

  // `context` and `tasks` must outlive it.
  Residents(const InstanceContext& context, io::TaskGroup& tasks, Listener listener);

  // What there is to be from now on; the models in the configuration's order.
  Reload configure(const MemoryPools& pools, const std::vector<config::GroupConfig>& groups,
                   std::vector<Wanted> models);
  // From now on models are loaded.
  void launch();

  // See ControlLoop::admit. `request`: never used twice; give_back() ends it, and the wait.
  io::Task<Result<ReadyEngine>> wait_for_place(scheduler::RequestId request, std::string model,
                                               AdmitOptions options);
  void give_back(scheduler::RequestId request);

  // kModelNotFound with the nearest name.
  Result<Instance*> find(std::string_view model) const;
  std::vector<Instance*> all() const;

  // The user's commands. kModelNotFound.
  Result<void> load(std::string_view model);
  Result<void> unload(std::string_view model);
  Result<void> pin(std::string_view model);
  Result<void> unpin(std::string_view model);
  // Its engines with this backend (empty: all) are as if they had never failed. kModelNotFound.
  Result<void> forgive(std::string_view model, std::string_view backend);

  RouteTable routes() const;
  Residency residency() const;

  // Ends every wait with kShuttingDown; nothing is loaded from now on.
  void end_waits();
  // Ends all engines, in tasks.
  void stop_all(std::chrono::milliseconds grace);

 private:
  struct Resident;
  struct Waiter;
  using Handle = std::shared_ptr<Resident>;

  Handle find_handle(std::string_view model) const;
  Handle find_run(scheduler::Run run) const;
  Result<Handle> known(std::string_view model) const;
  std::vector<std::string_view> names() const;
  Handle make(Wanted wanted);
  // What it did to the model, for `reload`.
  void change(Resident& resident, Wanted wanted, Reload& reload);
  void plan(Resident& resident) const;
  scheduler::Needs needs_of(const Instance& instance) const;
  scheduler::Needs more_than(scheduler::Needs needs) const;
  scheduler::ModelSpec spec_of(const Resident& resident) const;
  void start_anew(Resident& resident);

  void feed(scheduler::Event event);
  void carry_out(const scheduler::Effect& effect);
  void carry_out(const scheduler::Start& start);
  void carry_out(const scheduler::Stop& stop);
  void carry_out(const scheduler::Dispatch& dispatch);
  void carry_out(const scheduler::Reject& reject);
  void carry_out(const scheduler::WakeAt& wake);
  void answer(scheduler::RequestId request, Result<ReadyEngine> result);
  io::Task<void> follow(Handle resident, scheduler::Run run, io::Task<LifeEnd> life);
  io::Task<void> measure();

  const InstanceContext& context_;
  io::TaskGroup& tasks_;
  Listener listener_;
  scheduler::Scheduler scheduler_;
  std::optional<MemoryPools> pools_;
  std::vector<Handle> residents_;  // In the configuration's order.
  std::vector<Handle> retired_;    // Taken out of it; until their engines are gone.
  std::map<scheduler::RequestId, Waiter*> waiting_;
  std::deque<scheduler::Event> inbox_;
  bool feeding_ = false;
  bool launched_ = false;
  bool stopping_ = false;
  boost::asio::steady_timer wake_;
  io::WaitList changed_;  // The state of any instance.
  io::WaitList stopped_;
  io::ContextPool measuring_{1, "yoke-measure"};  // Reading what a large process holds takes long.
};

}  // namespace yoke::supervisor
