#include "hardware/detect.h"

#include <iterator>

#include "hardware/backend_verdicts.h"
#include "hardware/kernel_devices.h"

namespace yoke::hardware {
namespace {

// The chain's order, as far as the detectors load a library.
const std::vector<Source> kLibraries{Source::kAmdSmi, Source::kNvml, Source::kHip, Source::kCuda,
                                     Source::kVulkan};

std::vector<Observation> observe(const DetectOptions& options) {
  std::vector<Observation> observations;
  if (!options.probes.command.empty()) observations = run_probes(kLibraries, options.probes);
  observations.push_back(detect_kfd(options.files));
  observations.push_back(detect_drm(options.files));
  return observations;
}

void judge(Machine& machine, const DetectOptions& options) {
  const InstalledFiles installed = read_installed_files(options.files, machine.devices);
  const VerdictContext context{machine.host, installed, machine.observations,
                               options.offer_software};
  for (Device& device : machine.devices) {
    device.backends = backend_verdicts(device, context);
    VllmVerdict vllm = vllm_verdict(device, installed.rocm_version);
    device.vllm_supported = vllm.supported;
    device.vllm_reason = std::move(vllm.reason);
  }
  machine.notes = obstacles(installed.nodes, machine.devices, machine.host.container);
}

}  // namespace

Machine detect(const DetectOptions& options) {
  Machine machine;
  machine.host = read_host(options.files);
  machine.observations = observe(options);
  machine.devices = merge_devices(machine.observations, machine.host);
  judge(machine, options);
  if (options.measure_bandwidth) {
    const auto threads = static_cast<int>(machine.host.cpu.usable_threads);
    // A container with little memory must not die of being measured.
    const std::uint64_t at_most = machine.host.memory.available / 8;
    machine.host.cpu.memory_bandwidth =
        measure_memory_bandwidth(threads > 0 ? threads : 1, at_most);
  }
  return machine;
}

}  // namespace yoke::hardware
