#include "cli/plan_inputs.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "cli/detect.h"
#include "config/machines_file.h"
#include "engines/backend_choice.h"
#include "engines/decisions.h"

namespace yoke::cli {
namespace {

using config::LoadOptions;
using engines::EngineInstall;

constexpr std::string_view kCpu = "cpu";
constexpr std::array<std::string_view, 4> kBackends{"vulkan", "rocm", "cuda", "cpu"};

// What is known about devices holds of those that are described too.
hardware::Machine machine_of(const config::DescribedMachine& described) {
  hardware::Machine machine;
  machine.host.memory.total = described.memory;
  for (const config::DescribedGpu& gpu : described.gpus) {
    hardware::Device device;
    device.name.value = gpu.name;
    if (!gpu.gfx.empty()) device.gfx = hardware::Fact<std::string>{.value = gpu.gfx};
    device.memory.unified = gpu.unified;
    machine.devices.push_back(std::move(device));
  }
  return machine;
}

// What the choice of a backend is made among: the engines that are installed, or one of each.
std::vector<EngineInstall> installs_of(const config::EnginesConfig& engines) {
  auto found = engines::engines_of_each_backend(engines);
  const auto has_backend = [](const EngineInstall& install) { return !install.backend.empty(); };
  if (found && std::ranges::all_of(*found, has_backend)) return std::move(*found);
  std::vector<EngineInstall> any;
  for (const std::string_view backend : kBackends) {
    any.push_back({.version = {}, .backend = std::string(backend)});
  }
  return any;
}

}  // namespace

Result<PlanHardware> described_hardware(const std::string& file, const LoadOptions& options) {
  YOKE_TRY(config::MachinesFile machines, config::load_machines(file));
  const std::string backend = options.backends.empty() ? "" : options.backends.front();
  for (config::DescribedMachine& machine : machines.machines) {
    if (backend == kCpu) machine.gpus.clear();
    for (config::DescribedGpu& gpu : machine.gpus) {
      if (!backend.empty()) gpu.backend = backend;
    }
  }
  PlanHardware made{.name = file,
                    .backend = std::string(kCpu),
                    .machine = machine_of(machines.machines.front()),
                    .inventory = planner::inventory_of(machines)};
  // Settings are one for all devices; the first that computes says which.
  if (made.inventory.devices.size() > 1) made.backend = made.inventory.devices[1].backend;
  return made;
}

Result<PlanHardware> this_hardware(const LoadOptions& options,
                                   const config::EnginesConfig& engines) {
  using namespace std::chrono_literals;
  const std::vector<EngineInstall> installs = installs_of(engines);
  YOKE_TRY(hardware::DetectOptions detection, hardware_options({}, false));
  detection.offer_software = engines.software_devices;
  detection.probes.limit = 5s;
  const bool look = engines::needs_devices(installs, options);
  if (!look) detection.probes.command.clear();  // The libraries would tell of GPUs alone.
  PlanHardware made{.name = "this machine, on top of what runs now",
                    .backend = std::string(kCpu),
                    .machine = hardware::detect(detection),
                    .inventory = {}};
  config::EnginesConfig any = engines;  // The choice is among installs, not by one program.
  any.llama_server.reset();
  const engines::BackendChoice choice =
      engines::choose_backends(installs, look ? &*made.machine : nullptr, any, options);
  if (!choice.candidates.empty()) {
    made.backend = choice.candidates.front().install.backend;
  } else if (!choice.ruled_out.empty()) {
    const engines::RuledOut& out = choice.ruled_out.front();
    return fail(kInvalidArgument, fmt::format("It can't run on {} here: {}", out.backend, out.why),
                "`yoke detect` says what there is; --backend cpu always works.");
  }
  made.inventory = planner::inventory_of(*made.machine, made.backend);
  return made;
}

LoadOptions decided_options(const LoadOptions& options, const PlanHardware& hardware) {
  return engines::decide(options, hardware.backend, hardware.machine ? &*hardware.machine : nullptr,
                         false)
      .options;
}

}  // namespace yoke::cli
