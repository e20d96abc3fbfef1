// Instance: one model of the configuration and the engine process that serves it, one life after
// another. Starts the process, waits until it is ready, compares its answers, watches it, says how
// it ended. When a life begins and is to end is the scheduler's business.
// Owned by the control loop; all calls on its thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/config.h"
#include "contexts/engine_contexts.h"
#include "engines/answer_check.h"
#include "engines/decisions.h"
#include "engines/failure.h"
#include "io/task.h"
#include "io/wait_list.h"
#include "supervisor/child_process.h"
#include "supervisor/ended.h"
#include "supervisor/engine_set.h"
#include "supervisor/explanation.h"
#include "supervisor/instance_context.h"
#include "supervisor/log_ring.h"
#include "supervisor/route_table.h"
#include "supervisor/rpc_watch.h"
#include "supervisor/standing.h"

namespace yoke::supervisor {

class Instance {
 public:
  Instance(const InstanceContext& context, config::ModelConfig model, EngineChoice choice,
           InstanceListener listener);

  // One life, until the engine ends or stop() was called; also before it has begun to run.
  io::Task<LifeEnd> live();

  // Ends the present life: saves its KV caches, then SIGTERM, and SIGKILL after `grace`. Returns
  // when its processes are gone.
  io::Task<void> stop(std::chrono::milliseconds grace);

  // Other options or engines, for the next life; only between two.
  void configure(config::ModelConfig model, EngineChoice choice);

  // Looks at what the next life would be started with. Only between two.
  void choose_engine();
  std::optional<NextStart> next_start() const;  // None: no engine can run it.

  // The process of that number (Route::start) said that it can't compute any more.
  void break_off(std::uint64_t start, std::string message);

  // The engines with this backend (empty: all) are as if they had never failed. A better one than
  // the present takes over as soon as nothing is being answered.
  void forgive(std::string_view backend);

  // What is known of that case matters to one of its engines, as they are now.
  bool concerns(const store::Case& known) const;

  // The file is another one than that with which the last life failed.
  bool has_new_file() const;

  // For route(); bytes.
  void set_planned(std::uint64_t bytes) { route_.planned_bytes = bytes; }
  void set_held(std::uint64_t bytes) { route_.held_bytes = bytes; }
  // Another model took its place.
  void count_eviction() { ++route_.evictions; }

  const config::ModelConfig& config() const { return model_; }
  const EngineChoice& choice() const { return choice_; }
  const Route& route() const { return route_; }
  const std::shared_ptr<contexts::EngineContexts>& contexts() const { return contexts_; }
  const LogRing& log() const { return log_; }
  Explanation explain() const;

 private:
  enum class Order { kHung, kBroken };  // Why a process that runs is to be ended.

  io::Task<LifeEnd> live_to_the_end();
  io::Task<void> end_life(std::chrono::milliseconds grace);
  io::Task<Ended> live_once();
  io::Task<std::optional<Ended>> become_ready();
  io::Task<std::optional<Ended>> check_answers();
  io::Task<std::optional<Ended>> end_if_broken();
  io::Task<bool> ready_and_whole();
  io::Task<std::optional<Ended>> make_reference(int prompt_tokens);
  io::Task<Result<engines::FirstTokens>> answer_as_reference(http::Endpoint engine, std::string key,
                                                             int prompt_tokens) const;
  bool checks_answers() const;
  int tokens_to_check() const;
  io::Task<Ended> serve();
  io::Task<Order> watch();
  io::Task<void> save_contexts();

  config::LoadOptions reference_options(int prompt_tokens) const;
  contexts::ContextKey context_key() const;
  // Null if no GPU was looked for.
  const hardware::Machine* machine() const {
    return context_.gpus_known ? &context_.machine : nullptr;
  }
  void adopt(StartedEngine started);
  ChildProcess::LineSink log_sink();
  void watch_rpc();
  std::chrono::milliseconds hang_limit() const;
  const Engine& engine() const { return choice_.engines[current_]; }
  EngineStart engine_start() const;
  std::vector<std::string> commands_for_several_machines() const;
  Result<void> check_model() const;
  LifeEnd after_failure(const Ended& ended);
  FallbackDecision decide(const Ended& ended);
  void look_for_idleness();
  bool is_time_for_better() const;
  bool is_time_to_save() const;
  Ended load_error(engines::FailureClass cls, Error error) const;
  Ended describe_end(const ExitStatus& status, bool was_ready);
  Ended describe_break(bool was_ready);
  Ended describe_hang(std::chrono::milliseconds served) const;
  std::uint64_t answers_of_this_life() const;
  void set_state(InstanceState state);

  const InstanceContext& context_;
  config::ModelConfig model_;
  EngineChoice choice_;
  std::size_t current_ = 0;  // Of choice_.engines.
  engines::LoadDecisions decisions_;
  std::uint64_t answers_before_ = 0;  // The route's count when this life became ready,
  std::uint64_t answers_seen_ = 0;    // at the last look,
  std::uint64_t answers_saved_ = 0;   // and when its KV caches were saved.
  InstanceListener listener_;
  Route route_;
  LogRing log_;
  std::optional<Standing> standing_;  // Always there; made anew with the engines.
  std::unique_ptr<ChildProcess> child_;
  std::shared_ptr<contexts::EngineContexts> contexts_;
  io::WaitList wake_;  // For stop() and the like.
  bool stopping_ = false;
  bool saving_ = false;
  std::optional<std::string> broken_;  // What the engine said.
  std::optional<RpcWatch> rpc_;        // If it was started with RPC servers.
  bool forgiven_ = false;
  bool said_better_ = false;
  bool asked_for_more_ = false;  // Memory, since it was configured.
  std::chrono::steady_clock::time_point idle_since_{};
  std::string failed_file_;  // engines::model_stamp at the failure.
};

}  // namespace yoke::supervisor
