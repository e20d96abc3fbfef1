#include "supervisor/engine_set.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/log.h"
#include "engines/backend_environment.h"
#include "engines/model_format.h"
#include "engines/vllm_install.h"
#include "supervisor/engine_probe.h"

namespace yoke::supervisor {
namespace {

using engines::EngineInstall;
using engines::EngineKind;
using engines::RuledOut;

constexpr std::string_view kCpu = "cpu";

bool needs(const config::Config& config, EngineKind kind) {
  return std::ranges::any_of(config.models, [kind](const config::ModelConfig& model) {
    return engines::engine_kind_for(model.options.model_path) == kind;
  });
}

std::vector<EngineInstall> installs_of(const EngineSet& set) {
  std::vector<EngineInstall> installs;
  for (const Engine& engine : set.llama_cpp) installs.push_back(engine.install);
  return installs;
}

const Engine* find(const EngineSet& set, const EngineInstall& install) {
  const auto found = std::ranges::find_if(
      set.llama_cpp, [&](const Engine& engine) { return engine.install.server == install.server; });
  return found == set.llama_cpp.end() ? nullptr : &*found;
}

const RuledOut* find_unusable(const EngineSet& set, std::string_view backend) {
  const auto found = std::ranges::find(set.unusable, backend, &RuledOut::backend);
  return found == set.unusable.end() ? nullptr : &*found;
}

// Of the engines for GPUs one for each backend that a model would be tried with.
std::vector<Engine> engines_to_ask(const EngineSet& set, const hardware::Machine* machine,
                                   const config::Config& config) {
  std::vector<Engine> asked;
  for (const config::ModelConfig& model : config.models) {
    for (Engine& engine : choose_engines(set, machine, config.engines, model.options).engines) {
      const std::string& backend = engine.install.backend;
      if (engine.install.kind != EngineKind::kLlamaCpp || backend.empty() || backend == kCpu) {
        continue;
      }
      const bool known = std::ranges::any_of(
          asked, [&](const Engine& other) { return other.install.backend == backend; });
      if (!known) asked.push_back(std::move(engine));
    }
  }
  return asked;
}

// The GPUs that the engine can compute on, at least one.
io::Task<Result<std::vector<std::string>>> devices_of(Engine engine) {
  auto probing = probe_devices(engine.install, engine.env);
  YOKE_CO_TRY(const auto devices, co_await std::move(probing));
  if (devices.empty()) {
    co_return fail(
        engines::kEngineUnusable,
        fmt::format("`{} --list-devices` lists none, so it would compute on the CPU: `yoke doctor` "
                    "says what is missing.",
                    engine.install.server.string()));
  }
  std::vector<std::string> names;
  for (const engines::EngineDevice& device : devices) names.push_back(device.id);
  co_return names;
}

// Into `set`: those that start, the preferred one of each backend. An error if there is none.
io::Task<Result<void>> probe_llama_cpp_engines(std::vector<EngineInstall> installs,
                                               EngineSet& set) {
  std::vector<Engine>& found = set.llama_cpp;
  std::optional<Error> problem;
  for (const EngineInstall& candidate : installs) {
    auto probing = probe_llama_cpp(candidate);
    auto capabilities = co_await std::move(probing);
    if (capabilities) {
      auto asking = with_backend(candidate);
      EngineInstall install = co_await std::move(asking);
      const bool known = std::ranges::any_of(
          found, [&](const Engine& engine) { return engine.install.backend == install.backend; });
      if (!known) found.push_back({std::move(install), std::move(*capabilities)});
      continue;
    }
    log::warning("An engine is left out: {}", capabilities.error().text());
    set.unusable.push_back({candidate.backend, capabilities.error().text()});
    if (!problem) problem = std::move(capabilities.error());
  }
  if (found.empty() && problem) co_return fail(std::move(*problem));
  // What another program does for the same backend needs no excuse.
  std::erase_if(set.unusable, [&](const RuledOut& out) {
    return std::ranges::any_of(
        found, [&](const Engine& engine) { return engine.install.backend == out.backend; });
  });
  co_return Result<void>{};
}

io::Task<Result<Engine>> probe_vllm_engine(config::EnginesConfig engines) {
  YOKE_CO_TRY(EngineInstall install, engines::find_vllm(engines));
  auto probing = probe_vllm(install);
  YOKE_CO_TRY(engines::Capabilities capabilities, co_await std::move(probing));
  co_return Engine{std::move(install), std::move(capabilities)};
}

// PyTorch on ROCm listens to CUDA's name too, and wants both to say the same.
std::vector<std::pair<std::string, std::string>> for_pytorch(
    std::vector<std::pair<std::string, std::string>> variables) {
  const auto hip = std::ranges::find(variables, "HIP_VISIBLE_DEVICES",
                                     &std::pair<std::string, std::string>::first);
  if (hip != variables.end()) variables.emplace_back("CUDA_VISIBLE_DEVICES", hip->second);
  return variables;
}

EngineChoice choose_vllm(const EngineSet& set, const hardware::Machine* machine,
                         const config::EnginesConfig& engines) {
  EngineChoice choice;
  if (!set.vllm) {
    const std::string why = set.no_vllm ? set.no_vllm->text() : "It is not installed.";
    choice.ruled_out.push_back({"vllm", why});
    return choice;
  }
  Engine engine = *set.vllm;
  engine.driver = engines::driver_of(machine, engine.install.backend);
  auto needed = engines::backend_environment(engine.install.backend, machine, engines);
  engine.env = for_pytorch(std::move(needed.variables));
  engine.notes = std::move(needed.notes);
  choice.engines.push_back(std::move(engine));
  return choice;
}

}  // namespace

io::Task<Result<EngineSet>> probe_engines(const config::Config& config) {
  EngineSet set;
  if (needs(config, EngineKind::kLlamaCpp) || config.models.empty()) {
    YOKE_CO_TRY(auto installs, engines::engines_of_each_backend(config.engines));
    auto probing = probe_llama_cpp_engines(std::move(installs), set);
    YOKE_CO_CHECK(co_await std::move(probing));
  }
  if (needs(config, EngineKind::kVllm)) {
    auto probing = probe_vllm_engine(config.engines);
    auto engine = co_await std::move(probing);
    if (engine) {
      set.vllm = std::move(*engine);
    } else {
      log::warning("vLLM can't be used: {}", engine.error().text());
      set.no_vllm = std::move(engine.error());
    }
  }
  co_return set;
}

EngineChoice choose_engines(const EngineSet& set, const hardware::Machine* machine,
                            const config::EnginesConfig& engines,
                            const config::LoadOptions& options) {
  if (engines::engine_kind_for(options.model_path) == EngineKind::kVllm) {
    return choose_vllm(set, machine, engines);
  }
  engines::BackendChoice chosen =
      engines::choose_backends(installs_of(set), machine, engines, options);
  EngineChoice choice{{}, std::move(chosen.ruled_out), {}};
  // To the choice it was not even there.
  for (RuledOut& out : choice.ruled_out) {
    if (const RuledOut* known = find_unusable(set, out.backend)) out.why = known->why;
  }
  for (engines::Candidate& candidate : chosen.candidates) {
    const Engine* probed = find(set, candidate.install);
    if (probed == nullptr) continue;  // It is one of those that were given.
    if (const RuledOut* out = find_unusable(set, candidate.install.backend)) {
      choice.ruled_out.push_back(*out);
      continue;
    }
    choice.engines.push_back({probed->install, probed->capabilities, std::move(candidate.env),
                              std::move(candidate.driver), std::move(candidate.notes)});
  }
  const auto cpu = std::ranges::find_if(
      set.llama_cpp, [](const Engine& engine) { return engine.install.backend == kCpu; });
  if (cpu != set.llama_cpp.end()) choice.reference = *cpu;
  return choice;
}

io::Task<void> ask_devices(EngineSet& set, const hardware::Machine* machine,
                           const config::Config& config) {
  for (Engine& engine : engines_to_ask(set, machine, config)) {
    std::string backend = engine.install.backend;
    auto asking = devices_of(std::move(engine));
    auto devices = co_await std::move(asking);
    if (devices) {
      const auto asked = std::ranges::find(set.llama_cpp, backend,
                                           [](const Engine& it) { return it.install.backend; });
      if (asked != set.llama_cpp.end()) asked->capabilities.devices = std::move(*devices);
      continue;
    }
    std::string why = devices.error().text();
    log::warning("The engine for {} is left out: {}", backend, why);
    set.unusable.push_back({std::move(backend), std::move(why)});
  }
}

bool needs_devices(const EngineSet& set, const config::LoadOptions& options) {
  if (engines::engine_kind_for(options.model_path) == EngineKind::kVllm) return true;
  return engines::needs_devices(installs_of(set), options);
}

}  // namespace yoke::supervisor
