#include "cli/config_reloader.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/log.h"
#include "base/paths.h"
#include "cli/catalogue_models.h"
#include "config/changes.h"
#include "config/listen.h"
#include "io/call_on.h"
#include "models/catalogue.h"

namespace yoke::cli {
namespace {

using gateway::ReloadReport;

// For one that asks. What takes long is looking at the devices and the engines again.
constexpr auto kLimit = std::chrono::minutes(1);

// Several mistakes are a line each in the error, and one in the log.
std::string one_line(std::string text) {
  std::ranges::replace(text, '\n', ' ');
  return text;
}

void log_report(const ReloadReport& report, const std::vector<std::string>& taken_over) {
  std::string text;
  const auto add = [&](std::string_view what, const std::vector<std::string>& names) {
    if (names.empty()) return;
    text += fmt::format("{}{} {}", text.empty() ? "" : "; ", what, fmt::join(names, ", "));
  };
  add("added", report.models.added);
  add("removed", report.models.removed);
  add("restarted", report.models.restarted);
  add("changed", report.models.changed);
  add("took over", taken_over);
  add("needs a restart of yoke serve:", report.needs_restart);
  if (text.empty()) {
    log::debug("Reloaded the configuration: nothing changed.");
  } else {
    log::info("Reloaded the configuration: {}.", text);
  }
}

// What was warned of already is not said again.
void log_warnings(const config::Config& config, const config::Config& before) {
  for (const std::string& warning : config.warnings) {
    if (std::ranges::find(before.warnings, warning) != before.warnings.end()) continue;
    log::warning("{}", warning);
  }
}

}  // namespace

std::filesystem::path config_file(const ServeOptions& options) {
  return options.config_file.empty() ? config_dir() / "yoke.toml"
                                     : std::filesystem::path(options.config_file);
}

Result<config::Config> read_config(const ServeOptions& options) {
  YOKE_TRY(config::Config config, config::load_config(config_file(options)));
  if (!options.listen.empty()) {
    YOKE_TRY(const config::ListenAddress address, config::parse_listen(options.listen));
    config.server.host = address.host;
    config.server.port = address.port;
  }
  YOKE_CHECK(config::check_exposure(config.server));
  if (auto taken = take_from_catalogue(config); !taken) {
    // To the user it is a mistake of the file, like any other.
    Error& error = taken.error();
    if (error.code == models::kModelUnknown) error.code = config::kConfigInvalid;
    return fail(std::move(error));
  }
  if (!options.log_level.empty()) {
    YOKE_TRY(config.server.log_level, log::parse_level(options.log_level));
  }
  return config;
}

ConfigReloader::ConfigReloader(boost::asio::any_io_executor executor, ServeOptions options,
                               config::Config running, ReloadTargets targets)
    : executor_(executor),
      options_(std::move(options)),
      running_(std::move(running)),
      targets_(std::move(targets)),
      asked_(executor),
      done_(executor) {}

io::Task<void> ConfigReloader::run() {
  struct End {
    ~End() { reloader.end(); }
    ConfigReloader& reloader;
  };
  const End end{*this};
  for (;;) {
    while (!next_) co_await asked_.wait_until(std::chrono::steady_clock::time_point::max());
    // Who asks from here on may know of a newer file.
    const auto outcome = std::exchange(next_, nullptr);
    auto taking = take_over();
    auto report = co_await std::move(taking);
    const auto cancellation = co_await boost::asio::this_coro::cancellation_state;
    if (cancellation.cancelled() != boost::asio::cancellation_type::none) co_return;
    if (!report) {
      log::error("The configuration stays as it was: {}", one_line(report.error().text()));
    }
    *outcome = std::move(report);
    done_.notify_all();
  }
}

void ConfigReloader::end() {
  ended_ = true;
  done_.notify_all();
}

io::Task<Result<ReloadReport>> ConfigReloader::reload() {
  auto calling = io::call_on(executor_, wait_for_reload());
  auto report = co_await std::move(calling);
  if (!report) co_return fail(kCancelled, "Nobody waits for the reload any more.");
  co_return std::move(*report);
}

io::Task<Result<ReloadReport>> ConfigReloader::wait_for_reload() {
  if (!next_) next_ = std::make_shared<Outcome>();
  const auto outcome = next_;
  asked_.notify_all();
  const auto deadline = std::chrono::steady_clock::now() + kLimit;
  while (!*outcome && !ended_ && std::chrono::steady_clock::now() < deadline) {
    co_await done_.wait_until(deadline);
  }
  if (*outcome) co_return **outcome;
  if (ended_) co_return fail(supervisor::kShuttingDown, "Yoke is stopping.");
  co_return fail(kTimeout, "The configuration is still being taken over.",
                 "The log of `yoke serve` says when it is.");
}

io::Task<Result<ReloadReport>> ConfigReloader::take_over() {
  YOKE_CO_TRY(config::Config next, read_config(options_));
  config::ConfigChanges changes = config::compare(running_, next);
  config::keep_until_restart(running_, next);
  // The key may be gone while the address stays.
  YOKE_CO_CHECK(config::check_exposure(next.server));
  auto reloading = targets_.models(next);
  YOKE_CO_TRY(supervisor::Reload models, co_await std::move(reloading));
  targets_.server(next.server);
  log::set_level(next.server.log_level);
  log_warnings(next, running_);
  running_ = std::move(next);
  ReloadReport report{std::move(models), std::move(changes.needs_restart)};
  log_report(report, changes.taken_over);
  co_return report;
}

}  // namespace yoke::cli
