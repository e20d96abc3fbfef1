// ConfigReloader: has a running `yoke serve` take over its configuration file as it is now. A file
// with any mistake changes nothing.
// Owned by serve(). Everything runs on the one thread of its executor, but for reload(). Must
// outlive its tasks.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include <boost/asio/any_io_executor.hpp>

#include "base/result.h"
#include "cli/serve.h"
#include "config/config.h"
#include "gateway/gateway.h"
#include "io/task.h"
#include "io/wait_list.h"

namespace yoke::cli {

// The file that the options name, or the usual one.
std::filesystem::path config_file(const ServeOptions& options);

// That file, with what the options say in its place and the paths of models of the catalogue.
// Errors of config::load_config, config::parse_listen, config::check_exposure, log::parse_level and
// models::Catalogue; config::kConfigInvalid for a model that the catalogue doesn't have.
Result<config::Config> read_config(const ServeOptions& options);

// Who takes over what.
struct ReloadTargets {
  // ControlLoop::reload. After an error nothing has changed.
  std::function<io::Task<Result<supervisor::Reload>>(config::Config)> models;
  // Gateway::reconfigure.
  std::function<void(const config::ServerConfig&)> server;
};

class ConfigReloader {
 public:
  // `running`: as read_config gave it at the start.
  ConfigReloader(boost::asio::any_io_executor executor, ServeOptions options,
                 config::Config running, ReloadTargets targets);

  // Does what reload() asks for, one at a time, until it is cancelled. Spawn it once.
  io::Task<void> run();

  // Takes over the file as it is now or later, and says what that changed; who asks while another
  // reload is under way gets the next one. The log says it too. Any thread. Errors of read_config
  // and of the targets; kTimeout after a minute, supervisor::kShuttingDown, and kCancelled for who
  // is cancelled; then it may still come to it.
  io::Task<Result<gateway::ReloadReport>> reload();

 private:
  using Outcome = std::optional<Result<gateway::ReloadReport>>;

  io::Task<Result<gateway::ReloadReport>> wait_for_reload();
  io::Task<Result<gateway::ReloadReport>> take_over();
  void end();

  boost::asio::any_io_executor executor_;
  const ServeOptions options_;
  config::Config running_;  // What is in force.
  const ReloadTargets targets_;
  std::shared_ptr<Outcome> next_;  // Of those who asked; null: nobody did.
  io::WaitList asked_;
  io::WaitList done_;
  bool ended_ = false;
};

}  // namespace yoke::cli
