#include "supervisor/engine_start.h"

#include <algorithm>
#include <system_error>

#include <boost/asio/ip/tcp.hpp>
#include <fmt/format.h>

#include "base/random.h"
#include "engines/launch.h"
#include "engines/llama_cpp.h"
#include "io/sleep.h"

namespace yoke::supervisor {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// A small model is there after a quarter of a second, of which each look may lose an interval.
constexpr auto kFirstInterval = 4ms;
constexpr auto kLaterInterval = 15ms;
constexpr auto kFirstLooks = 3s;
constexpr std::size_t kKeyBytes = 24;

// A port that is free now. Somebody may take it before the engine does; that is a failure class.
Result<std::uint16_t> free_port(boost::asio::any_io_executor executor) {
  using boost::asio::ip::tcp;
  boost::system::error_code error;
  tcp::acceptor acceptor(executor);
  acceptor.open(tcp::v4(), error);
  if (!error) acceptor.bind({boost::asio::ip::address_v4::loopback(), 0}, error);
  if (error) return fail(kIo, fmt::format("No free port on 127.0.0.1: {}.", error.message()));
  return acceptor.local_endpoint().port();
}

// Both engines answer at the same path with the same status.
io::Task<engines::Health> ask_health(http::Endpoint endpoint) {
  http::ClientRequest request{std::move(endpoint), {}, {}};
  request.head.target = engines::kLlamaHealthPath;
  const http::ClientTimeouts timeouts{1s, 5s, 5s};
  auto sending = http::send(std::move(request), timeouts);
  const auto response = co_await std::move(sending);
  if (!response) co_return engines::Health::kLoading;  // It does not listen yet.
  co_return engines::health_of_status((*response)->head().status);
}

// With its directory, which only this user may look into; nothing where that can't be made.
std::filesystem::path private_file(const std::filesystem::path& file) {
  namespace fs = std::filesystem;
  if (file.empty()) return {};
  std::error_code error;
  fs::create_directories(file.parent_path(), error);
  if (!error) fs::permissions(file.parent_path(), fs::perms::owner_all, error);
  return error ? fs::path() : file;
}

}  // namespace

std::string short_name(const Engine& engine) {
  const std::string& installed = engine.install.version;
  return fmt::format("{} {}", name_of(engine.install.kind),
                     installed.empty() ? engine.capabilities.version : installed);
}

std::string full_name(const Engine& engine) {
  const std::string& installed = engine.install.version;
  const std::string& says = engine.capabilities.version;
  if (says.empty() || installed.empty() || says.starts_with(installed)) {
    return fmt::format("{} {}", name_of(engine.install.kind), says.empty() ? installed : says);
  }
  return fmt::format("{} {} ({})", name_of(engine.install.kind), installed, says);
}

Result<StartedEngine> start_engine(boost::asio::any_io_executor executor, const EngineStart& start,
                                   ChildProcess::LineSink sink) {
  YOKE_TRY(const std::uint16_t port, free_port(executor));
  StartedEngine started;
  started.endpoint = http::Endpoint{"127.0.0.1", port};
  started.key = random_hex(kKeyBytes);
  YOKE_TRY(engines::CommandLine command,
           engines::command_line({start.engine.install, start.engine.capabilities, start.options,
                                  start.alias, port, started.key, start.machine, start.slot_dir,
                                  private_file(start.rpc_hashes)}));
  started.notes = start.engine.notes;
  started.notes.insert(started.notes.end(), command.notes.begin(), command.notes.end());
  ChildSpec spec;
  spec.argv = std::move(command.argv);
  spec.env = std::move(command.env);
  for (const auto& variable : start.engine.env) {  // The model's own options come first.
    const bool set = std::ranges::any_of(
        spec.env, [&](const auto& other) { return other.first == variable.first; });
    if (!set) spec.env.push_back(variable);
  }
  // llama.cpp also loads backend modules from where it is started: let that be its own directory.
  spec.working_dir = start.engine.install.dir;
  spec.drop_env_prefixes = engines::hidden_env_prefixes(start.engine.install.kind);
  spec.guard = start.guard;
  YOKE_TRY(started.child, ChildProcess::spawn(executor, std::move(spec), std::move(sink)));
  return started;
}

io::Task<bool> wait_until_ready(http::Endpoint endpoint, std::chrono::milliseconds limit) {
  const auto begun = Clock::now();
  while (Clock::now() < begun + limit) {
    auto asking = ask_health(endpoint);
    const engines::Health health = co_await std::move(asking);
    if (health == engines::Health::kReady) co_return true;
    co_await io::sleep_for(Clock::now() < begun + kFirstLooks ? kFirstInterval : kLaterInterval);
  }
  co_return false;
}

}  // namespace yoke::supervisor
