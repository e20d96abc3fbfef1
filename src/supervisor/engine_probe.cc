#include "supervisor/engine_probe.h"

#include <chrono>
#include <string_view>
#include <utility>

#include <boost/asio/this_coro.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engines/launch.h"
#include "engines/text_lines.h"
#include "engines/vllm.h"
#include "engines/vllm_install.h"
#include "io/sleep.h"
#include "io/wait_for_one.h"
#include "supervisor/child_process.h"

namespace yoke::supervisor {
namespace {

using namespace std::chrono_literals;
constexpr std::chrono::seconds kLimit = 10s;
constexpr std::chrono::seconds kVllmLimit = 60s;
constexpr std::size_t kMaxOutput = 4u << 20;
constexpr std::string_view kLlamaHint =
    "Install the engine again with `make engine`, or correct [engines] llama_server.";
constexpr std::string_view kVllmHint =
    "Install it again with `yoke engine install vllm`, or correct [engines] vllm.";

io::Task<Result<std::string>> output_of(engines::EngineInstall install,
                                        std::vector<std::string> arguments, Variables env = {}) {
  const bool vllm = install.kind == engines::EngineKind::kVllm;
  const std::chrono::seconds limit = vllm ? kVllmLimit : kLimit;
  const std::string command =
      fmt::format("{} {}", install.server.string(), fmt::join(arguments, " "));
  const auto executor = co_await boost::asio::this_coro::executor;
  std::string output;
  ChildSpec spec;
  spec.argv = {install.server.string()};
  spec.argv.insert(spec.argv.end(), arguments.begin(), arguments.end());
  spec.drop_env_prefixes = engines::hidden_env_prefixes(install.kind);
  spec.env = std::move(env);
  spec.working_dir = install.dir;  // See Instance: it loads modules from there.
  auto sink = [&output](std::string_view line) {
    if (output.size() < kMaxOutput) output.append(line).push_back('\n');
  };
  YOKE_CO_TRY(auto child, ChildProcess::spawn(executor, std::move(spec), sink));
  auto ending = child->wait();
  auto clock = io::sleep_for(limit);
  const auto outcome = co_await io::wait_for_one(std::move(ending), std::move(clock));
  if (outcome.index() == 1) {
    co_return fail(engines::kEngineUnusable,
                   fmt::format("`{}` did not end within {} s.", command, limit.count()),
                   "Run it by hand to see what it waits for.");
  }
  const ExitStatus status = std::get<0>(outcome);
  if (!status.clean()) {
    co_return fail(
        engines::kEngineUnusable,
        fmt::format("`{}` ended with {}: {}", command, status.describe(), output.substr(0, 500)),
        std::string(vllm ? kVllmHint : kLlamaHint));
  }
  co_return output;
}

// The version stands alone in its line, below what the libraries that vLLM loads have to say.
std::string version_in(std::string_view output) {
  std::string version;
  while (!output.empty()) {
    const std::string_view line = engines::take_line(output);
    const bool number = !line.empty() && line.front() >= '0' && line.front() <= '9';
    if (number && line.find(' ') == std::string_view::npos) version = line;
  }
  return version;
}

}  // namespace

io::Task<Result<engines::Capabilities>> probe_llama_cpp(engines::EngineInstall install) {
  auto asking_version = output_of(install, {"--version"});
  YOKE_CO_TRY(const std::string version, co_await std::move(asking_version));
  auto asking_help = output_of(install, {"--help"});
  YOKE_CO_TRY(const std::string help, co_await std::move(asking_help));
  co_return engines::parse_capabilities(version, help);
}

io::Task<Result<std::vector<engines::EngineDevice>>> probe_devices(engines::EngineInstall install,
                                                                   Variables env) {
  auto asking = output_of(install, {"--list-devices"}, std::move(env));
  YOKE_CO_TRY(const std::string output, co_await std::move(asking));
  co_return engines::parse_devices(output);
}

io::Task<engines::EngineInstall> with_backend(engines::EngineInstall install) {
  if (!install.backend.empty()) co_return install;
  auto probing = probe_devices(install);
  const auto devices = co_await std::move(probing);
  if (devices) install.backend = engines::backend_of(*devices);
  co_return install;
}

io::Task<Result<std::string>> probe_vllm_version(engines::EngineInstall install) {
  auto asking = output_of(install, {"--version"});
  YOKE_CO_TRY(const std::string output, co_await std::move(asking));
  std::string version = version_in(output);
  if (version.empty()) {
    co_return fail(engines::kEngineUnusable,
                   fmt::format("`{} --version` printed no version: {}", install.server.string(),
                               output.substr(0, 500)),
                   std::string(kVllmHint));
  }
  co_return version;
}

io::Task<Result<engines::Capabilities>> probe_vllm(engines::EngineInstall install) {
  if (auto stored = engines::stored_capabilities(install)) co_return std::move(*stored);
  auto asking = output_of(install, {engines::kVllmHelp.begin(), engines::kVllmHelp.end()});
  YOKE_CO_TRY(const std::string help, co_await std::move(asking));
  co_return engines::parse_vllm_help(install.version, help);
}

}  // namespace yoke::supervisor
