#include "supervisor/engine_probe.h"

#include <fmt/format.h>

#include "io/sleep.h"
#include "io/wait_for_one.h"
#include "supervisor/child_process.h"

namespace yoke::supervisor {
namespace {

using namespace std::chrono_literals;
constexpr auto kLimit = 10s;
constexpr std::size_t kMaxOutput = 1u << 20;

io::Task<Result<std::string>> output_of(engines::EngineInstall install, std::string flag) {
  const std::string program = install.server;
  const auto executor = co_await boost::asio::this_coro::executor;
  std::string output;
  ChildSpec spec;
  spec.argv = {program, flag};
  spec.working_dir = install.dir;  // See Instance: it loads modules from there.
  auto sink = [&output](std::string_view line) {
    if (output.size() < kMaxOutput) output.append(line).push_back('\n');
  };
  YOKE_CO_TRY(auto child, ChildProcess::spawn(executor, std::move(spec), sink));
  auto ending = child->wait();
  auto clock = io::sleep_for(kLimit);
  const auto outcome = co_await io::wait_for_one(std::move(ending), std::move(clock));
  if (outcome.index() == 1) {
    co_return fail(engines::kEngineUnusable,
                   fmt::format("`{} {}` did not end within {} s.", program, flag, kLimit.count()),
                   "Run it by hand to see what it waits for.");
  }
  const ExitStatus status = std::get<0>(outcome);
  if (!status.clean()) {
    co_return fail(engines::kEngineUnusable,
                   fmt::format("`{} {}` ended with {}: {}", program, flag, status.describe(),
                               output.substr(0, 500)),
                   "Install the engine again with `make engine`, or set [engines] llama_server.");
  }
  co_return output;
}

}  // namespace

io::Task<Result<engines::Capabilities>> probe_llama_cpp(engines::EngineInstall install) {
  YOKE_CO_TRY(const std::string version, co_await output_of(install, "--version"));
  YOKE_CO_TRY(const std::string help, co_await output_of(install, "--help"));
  co_return engines::parse_capabilities(version, help);
}

io::Task<Result<std::vector<engines::EngineDevice>>> probe_devices(engines::EngineInstall install) {
  YOKE_CO_TRY(const std::string output, co_await output_of(install, "--list-devices"));
  co_return engines::parse_devices(output);
}

}  // namespace yoke::supervisor
