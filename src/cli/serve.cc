#include "cli/serve.h"

#include <algorithm>
#include <csignal>
#include <sys/resource.h>
#include <thread>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <fmt/format.h>

#include "base/log.h"
#include "cli/config_reloader.h"
#include "cli/detect.h"
#include "config/config.h"
#include "gateway/gateway.h"
#include "io/context_pool.h"
#include "io/file_watch.h"
#include "io/task_group.h"
#include "supervisor/control_loop.h"

namespace yoke::cli {
namespace {

using namespace std::chrono_literals;

// For running answers to end after the first signal, and for engines to end after that.
constexpr auto kAnswerGrace = 10s;
constexpr auto kEngineGrace = 5s;

// Every connection takes two descriptors; the usual soft limit of 1024 is small for that.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

std::string address_of(const config::ServerConfig& server, std::uint16_t port) {
  const bool ipv6 = server.host.find(':') != std::string::npos;
  return ipv6 ? fmt::format("http://[{}]:{}", server.host, port)
              : fmt::format("http://{}:{}", server.host, port);
}

// What engines may be run on. A driver that hangs must not hold the start up for long.
hardware::Machine detect_devices(bool gpus) {
  auto options = hardware_options({}, false);
  if (!options) {
    log::warning("The devices can't be looked for: {}", options.error().text());
    return {};
  }
  options->probes.limit = 5s;
  if (!gpus) options->probes.command.clear();  // The libraries would tell of GPUs alone.
  return hardware::detect(*options);
}

io::Task<void> reload_on_hangup(boost::asio::signal_set& hangups, ConfigReloader& reloader) {
  for (;;) {
    boost::system::error_code error;
    co_await hangups.async_wait(io::into(error));
    if (error) co_return;
    auto reloading = reloader.reload();
    co_await std::move(reloading);
  }
}

io::Task<void> reload_on_change(io::FileWatch& watch, ConfigReloader& reloader) {
  for (;;) {
    auto changing = watch.next_change();
    co_await std::move(changing);
    auto reloading = reloader.reload();
    co_await std::move(reloading);
  }
}

}  // namespace

Result<void> serve(const ServeOptions& options) {
  boost::asio::io_context main_context;
  const auto executor = main_context.get_executor();
  // First of all: from here on a SIGHUP ends nothing.
  boost::asio::signal_set hangups(executor, SIGHUP);
  io::FileWatch watch(executor, config_file(options));
  YOKE_TRY(const config::Config config, read_config(options));
  log::set_level(config.server.log_level);
  for (const std::string& warning : config.warnings) log::warning("{}", warning);
  raise_descriptor_limit();
  std::signal(SIGPIPE, SIG_IGN);

  // Before any thread starts, so that a signal during the start is not lost.
  boost::asio::signal_set signals(executor, SIGINT, SIGTERM);

  YOKE_TRY(const auto control, supervisor::ControlLoop::start(config, detect_devices));
  const std::size_t cores = std::max(1u, std::thread::hardware_concurrency());
  io::ContextPool pool(config.server.threads != 0 ? config.server.threads : cores);
  std::unique_ptr<gateway::Gateway> gateway;
  ConfigReloader reloader(
      executor, options, config,
      {.models = [&](config::Config next) { return control->reload(std::move(next)); },
       .server = [&](const config::ServerConfig& next) { gateway->reconfigure(next); }});
  gateway::GatewayHooks hooks{.reload = [&] { return reloader.reload(); }};
  YOKE_TRY(gateway, gateway::Gateway::start(pool, *control, config.server, std::move(hooks)));
  log::info("Yoke listens on {}.", address_of(config.server, gateway->port()));
  control->launch();

  io::TaskGroup tasks(executor);
  tasks.spawn(reloader.run());
  tasks.spawn(reload_on_hangup(hangups, reloader));
  tasks.spawn(reload_on_change(watch, reloader));
  signals.async_wait([&](boost::system::error_code, int) { main_context.stop(); });
  main_context.run();
  log::info("Stopping. Interrupt again to cut off what is still being answered.");
  tasks.cancel();

  std::thread second([&] {
    main_context.restart();
    signals.async_wait([](boost::system::error_code error, int) {
      if (!error) std::_Exit(130);  // The kernel ends the engines with this process.
    });
    main_context.run();  // Until the tasks have ended too.
  });
  gateway->stop(kAnswerGrace);
  control->stop(kEngineGrace);
  boost::asio::post(main_context, [&] {
    signals.cancel();
    tasks.cancel();
  });
  second.join();
  return {};
}

}  // namespace yoke::cli
