#include "engines/backend_choice.h"

#include <algorithm>
#include <array>
#include <optional>

#include <fmt/format.h>

namespace yoke::engines {
namespace {

using config::LoadOptions;
using config::ServerType;
using hardware::Device;
using hardware::Machine;
using hardware::Vendor;
using Names = std::vector<std::string>;

constexpr std::string_view kCpu = "cpu";

bool has_vendor(const Machine& machine, Vendor vendor) {
  return std::ranges::any_of(machine.devices, [vendor](const Device& device) {
    return device.vendor == vendor && !device.software;
  });
}

// What is tried where the user says nothing. Embeddings and rerankers stay on the CPU: small models
// gain little on a GPU, and ROCm's page faults have hit them most.
Names default_order(const Machine* machine, const LoadOptions& options) {
  if (machine == nullptr || options.server_type != ServerType::kLlm) return {std::string(kCpu)};
  if (has_vendor(*machine, Vendor::kNvidia)) return {"cuda", "vulkan", "rocm", "cpu"};
  return {"vulkan", "rocm", "cuda", "cpu"};
}

// Why no device of the machine can be used through the backend; nothing if one can.
std::optional<std::string> obstacle(const Machine& machine, std::string_view backend,
                                    bool software_devices) {
  std::string why = "There is no device for it.";
  for (const Device& device : machine.devices) {
    for (const hardware::BackendVerdict& verdict : device.backends) {
      if (hardware::name_of(verdict.backend) != backend) continue;
      if (verdict.usable || (device.software && software_devices)) return std::nullopt;
      if (!verdict.reason.empty()) {
        why = fmt::format("{}: {}", device.name.value, verdict.reason);
      }
    }
  }
  return why;
}

std::vector<std::pair<std::string, std::string>> environment(const Machine* machine,
                                                             std::string_view backend,
                                                             bool software_devices) {
  if (backend != "vulkan" || machine == nullptr) return {};
  // Both drivers may be there, and AMDVLK loses the device where RADV does not.
  if (has_vendor(*machine, Vendor::kAmd)) return {{"AMD_VULKAN_ICD", "RADV"}};
  const bool hardware =
      std::ranges::any_of(machine->devices, [](const Device& device) { return !device.software; });
  // llama.cpp passes software devices over unless it is told their number.
  if (!hardware && software_devices) return {{"GGML_VK_VISIBLE_DEVICES", "0"}};
  return {};
}

const EngineInstall* find(const std::vector<EngineInstall>& installs, std::string_view backend) {
  const auto found = std::ranges::find(installs, backend, &EngineInstall::backend);
  return found == installs.end() ? nullptr : &*found;
}

}  // namespace

bool needs_devices(const std::vector<EngineInstall>& installs, const LoadOptions& options) {
  const bool has_gpu_engine = std::ranges::any_of(installs, [](const EngineInstall& install) {
    return !install.backend.empty() && install.backend != kCpu;
  });
  if (!has_gpu_engine) return false;
  if (options.backends.empty()) return options.server_type == ServerType::kLlm;
  return std::ranges::any_of(options.backends,
                             [](const std::string& backend) { return backend != kCpu; });
}

BackendChoice choose_backends(const std::vector<EngineInstall>& installs, const Machine* machine,
                              const config::EnginesConfig& engines, const LoadOptions& options) {
  BackendChoice choice;
  if (engines.llama_server || (installs.size() == 1 && installs.front().backend.empty())) {
    for (const EngineInstall& install : installs) choice.candidates.push_back({install, {}});
    return choice;
  }
  const bool chosen_by_user = !options.backends.empty();
  const Names order = chosen_by_user ? options.backends : default_order(machine, options);
  for (const std::string& backend : order) {
    const EngineInstall* install = find(installs, backend);
    if (install == nullptr) {
      choice.ruled_out.push_back({backend, "No engine with this backend is installed."});
      continue;
    }
    const bool needs_device = backend != kCpu;
    const auto why_not = needs_device && machine != nullptr
                             ? obstacle(*machine, backend, engines.software_devices)
                             : std::nullopt;
    if (why_not) {
      choice.ruled_out.push_back({backend, *why_not});
      continue;
    }
    choice.candidates.push_back(
        {*install, environment(machine, backend, engines.software_devices)});
  }
  return choice;
}

}  // namespace yoke::engines
