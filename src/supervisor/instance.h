// Instance: one model of the configuration and the engine process that serves it. Starts the
// process, waits until it is ready, compares its answers, watches it, and starts the next one when
// it dies.
// Owned by the control loop; all calls on its thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/config.h"
#include "engines/answer_check.h"
#include "engines/decisions.h"
#include "engines/failure.h"
#include "io/task.h"
#include "io/wait_list.h"
#include "supervisor/child_process.h"
#include "supervisor/engine_set.h"
#include "supervisor/explanation.h"
#include "supervisor/guard.h"
#include "supervisor/history.h"
#include "supervisor/log_ring.h"
#include "supervisor/route_table.h"
#include "supervisor/standing.h"

namespace yoke::supervisor {

// Of Instance::error: the engine died, or never came up.
inline constexpr ErrorCode kEngineFailed{"engine_failed"};

// What all instances share. It must outlive them.
struct InstanceContext {
  boost::asio::any_io_executor executor;
  // How long an engine may make no progress while it has work; 0: for ever.
  std::chrono::milliseconds hang_limit;
  std::optional<hardware::Machine> machine;  // If it was looked for.
  History& history;
  Guard* guard = nullptr;
};

class Instance {
 public:
  // Called after every change of route(), and for every line of the log.
  struct Listener {
    std::function<void()> on_route;
    std::function<void()> on_log;
  };

  Instance(const InstanceContext& context, config::ModelConfig model, EngineChoice choice,
           Listener listener);

  // Keeps the engine running until stop(). Spawn it once.
  io::Task<void> run();

  // Ends the engine: SIGTERM, and SIGKILL after `grace`. Returns when its processes are gone.
  io::Task<void> stop(std::chrono::milliseconds grace);

  // Somebody wants the model: one that has failed is tried again if there is a new file, or if some
  // time has passed.
  void ask();

  // The process of that number (Route::start) said that it can't compute any more.
  void break_off(std::uint64_t start, std::string message);

  // The engines with this backend (empty: all) are as if they had never failed. A better one than
  // the present takes over as soon as nothing is being answered.
  void forgive(std::string_view backend);

  // What is known of that case matters to one of its engines, as they are now.
  bool concerns(const store::Case& known) const;

  // It has failed and is left alone until ask().
  bool has_given_up() const { return given_up_.has_value(); }
  const Route& route() const { return route_; }
  const LogRing& log() const { return log_; }
  Explanation explain() const;

 private:
  // How one life of the process ended.
  struct Ended {
    Ending ending{};
    Error error{kEngineFailed, {}, {}};
    std::string evidence{};   // A line of its log.
    bool for_better = false;  // It was ended to make way for a better backend, and has not failed.
  };
  enum class Order { kHung, kBroken, kBetter };  // Why a process that runs is to be ended.

  io::Task<Ended> live_once();
  io::Task<std::optional<Ended>> become_ready();
  io::Task<std::optional<Ended>> check_answers();
  io::Task<std::optional<Ended>> make_reference(int prompt_tokens);
  io::Task<Result<engines::FirstTokens>> answer_as_reference(http::Endpoint engine, std::string key,
                                                             int prompt_tokens) const;
  bool checks_answers() const;
  int tokens_to_check() const;
  io::Task<Ended> serve();
  io::Task<Order> watch();
  io::Task<void> wait_for_ask();

  void choose_engine();
  void adopt(StartedEngine started);
  ChildProcess::LineSink log_sink();
  const Engine& engine() const { return choice_.engines[current_]; }
  EngineStart engine_start() const;
  std::vector<std::string> commands_for_several_machines() const;
  Result<void> check_model() const;
  FallbackDecision decide(const Ended& ended);
  bool is_time_for_better();
  Ended load_error(engines::FailureClass cls, Error error) const;
  Ended describe_end(const ExitStatus& status, bool was_ready);
  Ended describe_break();
  std::uint64_t answers_of_this_life() const;
  void set_state(InstanceState state);

  const InstanceContext& context_;
  config::ModelConfig model_;
  const EngineChoice choice_;
  std::size_t current_ = 0;  // Of choice_.engines.
  engines::LoadDecisions decisions_;
  std::uint64_t answers_before_ = 0;  // The route's count when this life became ready.
  Listener listener_;
  Route route_;
  LogRing log_;
  Standing standing_;
  std::unique_ptr<ChildProcess> child_;
  io::WaitList wake_;  // For stop(), ask() and the like.
  bool stopping_ = false;
  bool asked_ = false;
  std::optional<std::string> broken_;  // What the engine said.
  bool forgiven_ = false;
  std::chrono::steady_clock::time_point idle_since_{};
  std::optional<engines::FailureClass> given_up_;
  std::string failed_file_;  // engines::model_stamp at the failure.
};

}  // namespace yoke::supervisor
