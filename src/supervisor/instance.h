// Instance: one model of the configuration and the engine process that serves it. Starts the
// process, waits until it is ready, watches it, starts it again when it dies.
// Owned by the control loop; all calls on its thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "config/config.h"
#include "engines/backend_choice.h"
#include "engines/capabilities.h"
#include "engines/failure.h"
#include "engines/llama_cpp.h"
#include "io/task.h"
#include "io/wait_list.h"
#include "supervisor/child_process.h"
#include "supervisor/fallback_policy.h"
#include "supervisor/log_ring.h"
#include "supervisor/route_table.h"

namespace yoke::supervisor {

// Of Instance::error: the engine died, or never came up.
inline constexpr ErrorCode kEngineFailed{"engine_failed"};

// An engine that instances may be started with.
struct Engine {
  engines::EngineInstall install;
  engines::Capabilities capabilities;
  std::vector<std::pair<std::string, std::string>> env{};  // That its backend needs.
};

// What a model may be started with, best first, and why the rest is not there.
struct EngineChoice {
  std::vector<Engine> engines;
  std::vector<engines::RuledOut> ruled_out;
};

class Instance {
 public:
  // Called after every change of route(), and for every line of the log.
  struct Listener {
    std::function<void()> on_route;
    std::function<void()> on_log;
  };

  // `hang_limit`: how long an engine may make no progress while it has work; 0: for ever.
  Instance(boost::asio::any_io_executor executor, config::ModelConfig model, EngineChoice choice,
           std::chrono::milliseconds hang_limit, Listener listener);

  // Keeps the engine running until stop(). Spawn it once.
  io::Task<void> run();

  // Ends the engine: SIGTERM, and SIGKILL after `grace`. Returns when its processes are gone.
  io::Task<void> stop(std::chrono::milliseconds grace);

  // Somebody wants the model: one that has failed is tried again if there is a new file, or if some
  // time has passed.
  void ask();

  // It has failed and is left alone until ask().
  bool has_given_up() const { return given_up_.has_value(); }
  const Route& route() const { return route_; }
  const LogRing& log() const { return log_; }

 private:
  // How one life of the process ended.
  struct Ended {
    Ending ending;
    Error error;
  };

  io::Task<Ended> live_once();
  void choose_engine();
  FallbackDecision decide(const Ending& ending);
  Result<engines::CommandLine> command_line(std::uint16_t port) const;
  io::Task<bool> wait_until_ready();
  io::Task<Ended> serve();
  io::Task<void> wait_for_hang() const;
  io::Task<void> wait_for_ask();
  Ended load_error(engines::FailureClass cls, Error error) const;
  Ended describe_end(const ExitStatus& status, bool was_ready);
  std::uint64_t answers_of_this_life() const;
  void set_state(InstanceState state);
  std::uint64_t file_stamp() const;

  boost::asio::any_io_executor executor_;
  config::ModelConfig model_;
  const EngineChoice choice_;
  std::size_t current_ = 0;           // Of choice_.engines.
  std::uint64_t answers_before_ = 0;  // The route's count when this life became ready.
  const std::chrono::milliseconds hang_limit_;
  Listener listener_;
  Route route_;
  LogRing log_;
  FallbackPolicy policy_;
  std::unique_ptr<ChildProcess> child_;
  io::WaitList wake_;  // For stop() and ask().
  bool stopping_ = false;
  bool asked_ = false;
  std::optional<engines::FailureClass> given_up_;
  std::uint64_t failed_file_ = 0;  // file_stamp() at the failure.
};

}  // namespace yoke::supervisor
