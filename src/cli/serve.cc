#include "cli/serve.h"

#include <algorithm>
#include <csignal>
#include <sys/resource.h>
#include <thread>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <fmt/format.h>

#include "base/log.h"
#include "base/paths.h"
#include "cli/catalogue_models.h"
#include "cli/detect.h"
#include "config/config.h"
#include "config/listen.h"
#include "gateway/gateway.h"
#include "io/context_pool.h"
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

Result<config::Config> read_config(const ServeOptions& options) {
  const std::filesystem::path file = options.config_file.empty()
                                         ? config_dir() / "yoke.toml"
                                         : std::filesystem::path(options.config_file);
  YOKE_TRY(config::Config config, config::load_config(file));
  if (!options.listen.empty()) {
    YOKE_TRY(const config::ListenAddress address, config::parse_listen(options.listen));
    config.server.host = address.host;
    config.server.port = address.port;
  }
  YOKE_CHECK(config::check_exposure(config.server));
  YOKE_CHECK(take_from_catalogue(config));
  if (!options.log_level.empty()) {
    YOKE_TRY(config.server.log_level, log::parse_level(options.log_level));
  }
  return config;
}

std::string address_of(const config::ServerConfig& server, std::uint16_t port) {
  const bool ipv6 = server.host.find(':') != std::string::npos;
  return ipv6 ? fmt::format("http://[{}]:{}", server.host, port)
              : fmt::format("http://{}:{}", server.host, port);
}

// What engines may be run on. A driver that hangs must not hold the start up for long.
hardware::Machine detect_devices() {
  auto options = hardware_options({}, false);
  if (!options) {
    log::warning("The devices can't be looked for: {}", options.error().text());
    return {};
  }
  options->probes.limit = 5s;
  return hardware::detect(*options);
}

}  // namespace

Result<void> serve(const ServeOptions& options) {
  YOKE_TRY(const config::Config config, read_config(options));
  log::set_level(config.server.log_level);
  for (const std::string& warning : config.warnings) log::warning("{}", warning);
  raise_descriptor_limit();
  std::signal(SIGPIPE, SIG_IGN);

  // Before any thread starts, so that a signal during the start is not lost.
  boost::asio::io_context main_context;
  boost::asio::signal_set signals(main_context, SIGINT, SIGTERM);

  YOKE_TRY(const auto control, supervisor::ControlLoop::start(config, detect_devices));
  const std::size_t cores = std::max(1u, std::thread::hardware_concurrency());
  io::ContextPool pool(config.server.threads != 0 ? config.server.threads : cores);
  YOKE_TRY(const auto gateway, gateway::Gateway::start(pool, *control, config.server));
  log::info("Yoke listens on {}.", address_of(config.server, gateway->port()));
  control->launch();

  signals.async_wait([](boost::system::error_code, int) {});
  main_context.run();
  log::info("Stopping. Interrupt again to cut off what is still being answered.");

  std::thread second([&] {
    main_context.restart();
    signals.async_wait([](boost::system::error_code error, int) {
      if (!error) std::_Exit(130);  // The kernel ends the engines with this process.
    });
    main_context.run();
  });
  gateway->stop(kAnswerGrace);
  control->stop(kEngineGrace);
  boost::asio::post(main_context, [&] { signals.cancel(); });
  second.join();
  return {};
}

}  // namespace yoke::cli
