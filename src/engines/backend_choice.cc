#include "engines/backend_choice.h"

#include <algorithm>
#include <array>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engines/backend_environment.h"

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

bool has_engine(const std::vector<EngineInstall>& installs, std::string_view backend) {
  return std::ranges::find(installs, backend, &EngineInstall::backend) != installs.end();
}

// Embeddings and rerankers stay on the CPU: small models gain little on a GPU, and ROCm's page
// faults have hit them most.
bool stays_on_cpu(const std::vector<EngineInstall>& installs, const LoadOptions& options) {
  return options.server_type != ServerType::kLlm && has_engine(installs, kCpu);
}

// What is tried where the user says nothing.
Names default_order(const std::vector<EngineInstall>& installs, const Machine* machine,
                    const LoadOptions& options) {
  if (machine == nullptr || stays_on_cpu(installs, options)) return {std::string(kCpu)};
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

bool is_usable(const Device& device, std::string_view backend) {
  return std::ranges::any_of(device.backends, [&](const hardware::BackendVerdict& verdict) {
    return hardware::name_of(verdict.backend) == backend && (verdict.usable || device.software);
  });
}

// "RADV Mesa 25.2.1" of each driver that offers the device.
void add_vulkan_drivers(const Device& device, Names& drivers) {
  for (const hardware::VulkanFacts& facts : device.vulkan_drivers) {
    const bool known = facts.driver != hardware::VulkanDriver::kOther;
    const std::string name =
        known ? std::string(hardware::name_of(facts.driver)) : facts.driver_name;
    drivers.push_back(facts.driver_info.empty() ? name
                                                : fmt::format("{} {}", name, facts.driver_info));
  }
}

void add_kernel_driver(const Device& device, Names& drivers) {
  if (!device.driver) return;
  const std::string version = device.driver_version ? " " + device.driver_version->value : "";
  drivers.push_back(device.driver->value + version);
}

Candidate make_candidate(const EngineInstall& install, const Machine* machine,
                         const config::EnginesConfig& engines, const std::filesystem::path& root) {
  BackendEnvironment environment = backend_environment(install.backend, machine, engines, root);
  return {.install = install,
          .env = std::move(environment.variables),
          .driver = driver_of(machine, install.backend),
          .notes = std::move(environment.notes)};
}

const EngineInstall* find(const std::vector<EngineInstall>& installs, std::string_view backend) {
  const auto found = std::ranges::find(installs, backend, &EngineInstall::backend);
  return found == installs.end() ? nullptr : &*found;
}

}  // namespace

std::string order_reason(EngineKind kind, const Machine* machine, const LoadOptions& options) {
  if (kind == EngineKind::kVllm) return "A HuggingFace model is for vLLM.";
  if (!options.backends.empty()) return "The configuration's `backends`, in its order.";
  if (options.server_type != ServerType::kLlm) {
    return "Embedding and rerank models run on the CPU, as small models gain little elsewhere.";
  }
  if (machine == nullptr) return "There is no engine for a GPU, so the CPU.";
  if (has_vendor(*machine, Vendor::kNvidia)) {
    return "An NVIDIA GPU is there: CUDA first, then Vulkan, ROCm and the CPU.";
  }
  return "Vulkan first, as it fails least often, then ROCm, CUDA and the CPU.";
}

bool needs_devices(const std::vector<EngineInstall>& installs, const LoadOptions& options) {
  const bool has_gpu_engine = std::ranges::any_of(installs, [](const EngineInstall& install) {
    return !install.backend.empty() && install.backend != kCpu;
  });
  if (!has_gpu_engine) return false;
  if (options.backends.empty()) return !stays_on_cpu(installs, options);
  return std::ranges::any_of(options.backends,
                             [](const std::string& backend) { return backend != kCpu; });
}

std::string driver_of(const Machine* machine, std::string_view backend) {
  if (machine == nullptr || backend.empty() || backend == kCpu) return "";
  Names parts;
  for (const Device& device : machine->devices) {
    if (!is_usable(device, backend)) continue;
    if (backend == "vulkan") {
      add_vulkan_drivers(device, parts);
    } else {
      add_kernel_driver(device, parts);
    }
  }
  std::ranges::sort(parts);
  parts.erase(std::ranges::unique(parts).begin(), parts.end());
  if (!machine->host.kernel_text.empty()) parts.push_back("Linux " + machine->host.kernel_text);
  return fmt::format("{}", fmt::join(parts, ", "));
}

BackendChoice choose_backends(const std::vector<EngineInstall>& installs, const Machine* machine,
                              const config::EnginesConfig& engines, const LoadOptions& options,
                              const std::filesystem::path& root) {
  BackendChoice choice;
  if (engines.llama_server || (installs.size() == 1 && installs.front().backend.empty())) {
    for (const EngineInstall& install : installs) {
      choice.candidates.push_back(make_candidate(install, machine, engines, root));
    }
    return choice;
  }
  const bool chosen_by_user = !options.backends.empty();
  const Names order = chosen_by_user ? options.backends : default_order(installs, machine, options);
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
    choice.candidates.push_back(make_candidate(*install, machine, engines, root));
  }
  return choice;
}

}  // namespace yoke::engines
