#include "cli/engine.h"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <iterator>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/json/array.hpp>
#include <boost/json/value_from.hpp>
#include <fmt/format.h>

#include "base/json_text.h"
#include "base/units.h"
#include "cli/answer_view.h"
#include "cli/model_place.h"
#include "cli/table.h"
#include "cli/text_wrap.h"
#include "config/config.h"
#include "engines/vllm_install.h"
#include "io/task.h"
#include "supervisor/engine_probe.h"

namespace yoke::cli {
namespace {

namespace asio = boost::asio;
using engines::EngineInstall;

constexpr std::string_view kNoDeviceText =
    "It finds no device of its backend, and would compute on the CPU.";
constexpr std::string_view kNoDeviceHint =
    "`yoke doctor` says what the GPU lacks; without a GPU use the engine for the CPU.";

struct Engines {
  std::vector<EngineInstall> installs;
  std::vector<std::string> problems;
};

Engines find_engines(const config::EnginesConfig& config) {
  Engines found;
  found.installs = engines::find_llama_cpp_installs(config, found.problems);
  std::ranges::move(engines::find_vllm_installs(config, found.problems),
                    std::back_inserter(found.installs));
  return found;
}

// Yoke's own engines are directories; of any other only the program is known.
std::string place_of(const EngineInstall& install) {
  return short_path(install.version.empty() ? install.server : install.dir);
}

std::string title_of(const EngineInstall& install) {
  std::string title(name_of(install.kind));
  if (!install.version.empty()) title += " " + install.version;
  if (!install.backend.empty()) title += " for " + install.backend;
  return printable(title);
}

std::string describe_problems(const std::vector<std::string>& problems) {
  std::string text;
  for (const std::string& problem : problems) text += fmt::format("\n{}\n", printable(problem));
  return text;
}

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);  // The next engine may take its time.
}

io::Task<Result<EngineCheck>> ask_llama_cpp(EngineInstall install) {
  EngineCheck check{.install = install};
  auto probing = supervisor::probe_llama_cpp(install);
  YOKE_CO_TRY(auto capabilities, co_await std::move(probing));
  check.version = std::move(capabilities.version);
  auto listing = supervisor::probe_devices(install);
  auto devices = co_await std::move(listing);
  if (devices) {
    check.devices = std::move(*devices);
    if (install.backend.empty()) check.install.backend = engines::backend_of(check.devices);
  } else {
    check.error = std::move(devices.error());
  }
  co_return check;
}

// Its devices are PyTorch's, which it lists only when it loads a model.
io::Task<Result<EngineCheck>> ask_vllm(EngineInstall install) {
  EngineCheck check{.install = install};
  auto probing = supervisor::probe_vllm_version(install);
  YOKE_CO_TRY(check.version, co_await std::move(probing));
  co_return check;
}

io::Task<Result<EngineCheck>> ask(EngineInstall install) {
  return install.kind == engines::EngineKind::kVllm ? ask_vllm(std::move(install))
                                                    : ask_llama_cpp(std::move(install));
}

// Blocks until the engine has said everything or is too slow.
EngineCheck check_install(const EngineInstall& install) {
  asio::io_context context{1};
  EngineCheck check{.install = install};
  std::exception_ptr bug;
  asio::co_spawn(context, ask(install), [&](std::exception_ptr thrown, Result<EngineCheck> answer) {
    bug = thrown;
    if (thrown) return;
    if (answer) {
      check = std::move(*answer);
    } else {
      check.error = std::move(answer.error());
    }
  });
  context.run();
  if (bug) std::rethrow_exception(bug);
  return check;
}

// "  device   Vulkan0: ..." with further lines below the first.
void add_labelled(std::string_view label, std::string_view value, const Terminal& terminal,
                  std::string& text) {
  if (value.empty()) return;
  constexpr std::size_t kIndent = 11;
  const auto width = static_cast<std::size_t>(std::max(terminal.width, 0));
  std::string before = fmt::format("  {:<9}", label);
  for (const std::string& line :
       wrap(printable(value), width > 2 * kIndent ? width - kIndent : 0)) {
    text += before + line + "\n";
    before = std::string(kIndent, ' ');
  }
}

std::string describe(EngineState state) {
  return state == EngineState::kNoDevice ? "no device" : std::string(name_of(state));
}

boost::json::array problems_json(const std::vector<std::string>& problems) {
  return boost::json::array(problems.begin(), problems.end());
}

Result<void> verdict(const std::vector<EngineCheck>& checks) {
  const auto works = [](const EngineCheck& check) { return check.state() == EngineState::kOk; };
  if (std::ranges::any_of(checks, works)) return {};
  return fail(kNoEngineWorks, "No engine works here.",
              "What is wrong with each stands above; `make engine` installs them again.");
}

}  // namespace

std::string_view name_of(EngineState state) {
  switch (state) {
    case EngineState::kOk:
      return "ok";
    case EngineState::kNoDevice:
      return "no_device";
    case EngineState::kFailed:
      return "failed";
  }
  return "";
}

EngineState EngineCheck::state() const {
  if (error) return EngineState::kFailed;
  const bool needs_device = install.kind == engines::EngineKind::kLlamaCpp &&
                            !install.backend.empty() && install.backend != "cpu";
  return needs_device && devices.empty() ? EngineState::kNoDevice : EngineState::kOk;
}

std::string format_engines(const std::vector<EngineInstall>& installs,
                           const std::vector<std::string>& problems, const Terminal& terminal) {
  if (installs.empty()) {
    return "No engine is installed. `make engine` builds and installs llama.cpp, "
           "`yoke engine install vllm` vLLM.\n" +
           describe_problems(problems);
  }
  Table table({{"ENGINE"}, {"VERSION"}, {"BACKEND"}, {"WHERE"}});
  for (const EngineInstall& install : installs) {
    table.add_row({std::string(name_of(install.kind)), printable(install.version),
                   printable(install.backend), place_of(install)});
  }
  return table.render(terminal) + describe_problems(problems);
}

boost::json::object to_json(const EngineInstall& install) {
  return {{"name", name_of(install.kind)},
          {"version", install.version},
          {"backend", install.backend},
          {"dir", install.dir.string()},
          {"server", install.server.string()}};
}

std::string format_check(const EngineCheck& check, const Terminal& terminal) {
  std::string text =
      terminal.bold(fmt::format("{}: {}", title_of(check.install), describe(check.state()))) + "\n";
  const auto add = [&](std::string_view label, std::string_view value) {
    add_labelled(label, value, terminal, text);
  };
  add("where", place_of(check.install));
  add("version", check.version);
  for (const engines::EngineDevice& device : check.devices) {
    add("device", fmt::format("{}: {}, {} of {} free", device.id, device.name,
                              format_memory(device.free_bytes), format_memory(device.total_bytes)));
  }
  if (check.error) {
    add("wrong", check.error->message);
    add("do", check.error->hint);
  } else if (check.state() == EngineState::kNoDevice) {
    add("wrong", kNoDeviceText);
    add("do", kNoDeviceHint);
  }
  return text;
}

boost::json::object to_json(const EngineCheck& check) {
  boost::json::object json = to_json(check.install);
  json["state"] = name_of(check.state());
  json["says"] = check.version;
  boost::json::array devices;
  for (const engines::EngineDevice& device : check.devices) {
    devices.push_back(boost::json::object{{"id", device.id},
                                          {"name", device.name},
                                          {"total_bytes", device.total_bytes},
                                          {"free_bytes", device.free_bytes}});
  }
  json["devices"] = std::move(devices);
  json["error"] = nullptr;
  if (check.error) {
    json["error"] = boost::json::object{{"code", check.error->code.name()},
                                        {"message", check.error->message},
                                        {"hint", check.error->hint}};
  }
  return json;
}

Result<void> engine_list(const EngineCommandOptions& options) {
  YOKE_TRY(const config::Config config, config_of({.config_file = options.config_file}));
  const Engines found = find_engines(config.engines);
  if (!options.json) {
    print(format_engines(found.installs, found.problems, Terminal::of(stdout)));
    return flush_stdout();
  }
  boost::json::array engines;
  for (const EngineInstall& install : found.installs) engines.push_back(to_json(install));
  print(pretty_json_text(boost::json::object{{"engines", std::move(engines)},
                                             {"problems", problems_json(found.problems)}}) +
        "\n");
  return flush_stdout();
}

Result<void> engine_check(const EngineCommandOptions& options) {
  YOKE_TRY(const config::Config config, config_of({.config_file = options.config_file}));
  const Engines found = find_engines(config.engines);
  if (found.installs.empty() && !options.json)
    return fail(engines::find_llama_cpp(config.engines).error());
  std::vector<EngineCheck> checks;
  boost::json::array engines;
  const Terminal terminal = Terminal::of(stdout);
  for (const EngineInstall& install : found.installs) {
    checks.push_back(check_install(install));
    if (options.json) {
      engines.push_back(to_json(checks.back()));
    } else {
      print(fmt::format("{}{}", checks.size() > 1 ? "\n" : "",
                        format_check(checks.back(), terminal)));
    }
  }
  if (options.json) {
    print(pretty_json_text(boost::json::object{{"engines", std::move(engines)},
                                               {"problems", problems_json(found.problems)}}) +
          "\n");
  } else {
    print(describe_problems(found.problems));
  }
  YOKE_CHECK(flush_stdout());
  return verdict(checks);
}

}  // namespace yoke::cli
