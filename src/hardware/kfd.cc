// KFD, the compute half of amdgpu: /sys/class/kfd/kfd/topology lists processors and GPUs as nodes.
#include <optional>
#include <string>

#include <fmt/format.h>

#include "hardware/device_text.h"
#include "hardware/kernel_devices.h"
#include "hardware/noted_files.h"

namespace yoke::hardware {
namespace {

// What the node's banks say a HIP program can have. Not called VRAM: on an APU that prefers GTT the
// kernel puts ttm.pages_limit here (amdgpu_amdkfd_get_local_mem_info()).
std::optional<std::uint64_t> bank_total(const NotedFiles& files, const std::string& node) {
  std::uint64_t total = 0;
  for (const std::string& bank : files.list(node + "/mem_banks")) {
    const std::string path = fmt::format("{}/mem_banks/{}/properties", node, bank);
    const auto text = files.read(path);
    if (!text) continue;
    const auto bytes = parse_kfd_bank(*text);
    if (!bytes) files.note(path + " describes no memory that is understood.");
    total += bytes.value_or(0);
  }
  return total > 0 && total <= kLargestSize ? std::optional(total) : std::nullopt;
}

std::optional<ObservedDevice> read_node(const NotedFiles& files, const std::string& path) {
  const auto text = files.read(path + "/properties");
  if (!text) return std::nullopt;
  const auto node = parse_kfd_node(*text);
  if (!node) {
    files.note(path + "/properties has no readable gfx_target_version.");
    return std::nullopt;
  }
  if (node->gfx_target_version == 0) return std::nullopt;  // A processor.
  if (!node->pci_address) {
    files.note(path + "/properties has no readable location_id.");
    return std::nullopt;
  }
  ObservedDevice device;
  device.pci_address = node->pci_address;
  device.vendor = Vendor::kAmd;
  device.pci_device_id = node->device_id;
  device.render_minor = node->render_minor;
  device.driver = "amdgpu";
  device.memory_total = bank_total(files, path);
  const std::string gfx = gfx_of_target_version(node->gfx_target_version);
  if (gfx.empty()) {
    files.note(fmt::format("{}/properties: gfx_target_version {} is no version.", path,
                           node->gfx_target_version));
  } else {
    device.gfx = gfx;
  }
  return device;
}

}  // namespace

Observation detect_kfd(const HostFiles& host_files) {
  const std::string nodes = "/sys/class/kfd/kfd/topology/nodes";
  Observation observation;
  observation.source = Source::kKfd;
  const NotedFiles files(host_files, observation.notes);
  if (!files.exists(nodes)) {
    observation.detail = "AMD's compute driver (KFD, a part of amdgpu) is not loaded.";
    return observation;
  }
  for (const std::string& name : files.list(nodes)) {
    if (!parse_minor(name, "")) continue;
    if (auto device = read_node(files, nodes + "/" + name)) {
      observation.devices.push_back(*std::move(device));
    }
  }
  observation.outcome = observation.devices.empty() ? Outcome::kNoDevices : Outcome::kFound;
  return observation;
}

}  // namespace yoke::hardware
