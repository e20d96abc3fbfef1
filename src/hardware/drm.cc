// DRM's cards in /sys/class/drm, and on the PCI bus the GPUs that have no DRM card: NVIDIA's
// without nvidia-drm, and those without any driver.
#include <algorithm>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "hardware/device_text.h"
#include "hardware/kernel_devices.h"
#include "hardware/noted_files.h"
#include "hardware/pci_address.h"
#include "hardware/text_fields.h"

namespace yoke::hardware {
namespace {

struct PciDevice {
  std::string path;  // Its directory in sysfs.
  std::string address;
  std::uint32_t vendor_id = 0;
  std::optional<std::string> driver;
};

std::optional<std::uint32_t> read_id(const NotedFiles& files, const std::string& path) {
  const auto id = files.number(path);
  if (!id) return std::nullopt;
  if (*id <= 0xffff) return static_cast<std::uint32_t>(*id);
  files.note(fmt::format("{} is no PCI id: {:#x}.", path, *id));
  return std::nullopt;
}

std::optional<std::string> driver_version(const NotedFiles& files, const std::string& driver) {
  // In-tree drivers have no version but the kernel's; amdgpu-dkms and nvidia do.
  if (const auto version = files.line("/sys/module/" + driver + "/version");
      version && !version->empty()) {
    return printable(*version);
  }
  if (driver != "nvidia") return std::nullopt;
  const auto text = files.read("/proc/driver/nvidia/version");
  return text ? parse_nvidia_version(*text) : std::nullopt;
}

// amdgpu makes board_info for discrete cards only, and mem_info_vram_vendor only where the firmware
// names the maker of the memory chips, which it does for discrete cards (kernel documentation,
// "AMDGPU Misc Information"; Lemonade tells by the same files). Ollama also wants little VRAM and
// much GTT, which is wrong for an APU with a carve-out of 96 GiB. Accelerators (PCI class 0x12) are
// left open: MI300A, an APU, and MI300X in a virtual machine look alike here.
std::optional<bool> amdgpu_integrated(const NotedFiles& files, const std::string& path) {
  if (files.exists(path + "/mem_info_vram_vendor") || files.exists(path + "/board_info")) {
    return false;
  }
  const auto device_class = files.number(path + "/class");
  const bool accelerator = device_class && *device_class >> 16 == 0x12;
  if (accelerator || !files.exists(path + "/mem_info_vram_total")) return std::nullopt;
  return true;
}

void read_amdgpu(const NotedFiles& files, const std::string& path, ObservedDevice& device) {
  device.vram_total = files.size(path + "/mem_info_vram_total");
  device.vram_used = files.size(path + "/mem_info_vram_used");
  device.gtt_total = files.size(path + "/mem_info_gtt_total");
  device.gtt_used = files.size(path + "/mem_info_gtt_used");
  device.integrated = amdgpu_integrated(files, path);
  // Server cards carry their name on the board.
  if (const auto name = files.line(path + "/product_name"); name && !name->empty()) {
    device.name = printable(*name);
  }
}

void read_nvidia(const NotedFiles& files, const std::string& address, ObservedDevice& device) {
  const auto text = files.read("/proc/driver/nvidia/gpus/" + address + "/information");
  if (text) device.name = parse_nvidia_model(*text);
}

// Intel's own graphics is always at 00:02.0; other buses hold cards.
std::optional<bool> intel_integrated(const std::string& address) {
  if (address == "0000:00:02.0") return true;
  if (address.find(":00:") == std::string::npos) return false;
  return std::nullopt;
}

ObservedDevice observe(const NotedFiles& files, const PciDevice& pci) {
  ObservedDevice device;
  device.pci_address = pci.address;
  device.vendor = vendor_of_pci_id(pci.vendor_id);
  device.pci_device_id = read_id(files, pci.path + "/device");
  device.driver = pci.driver;
  if (pci.driver) device.driver_version = driver_version(files, *pci.driver);
  if (pci.driver == "amdgpu") read_amdgpu(files, pci.path, device);
  if (device.vendor == Vendor::kNvidia) read_nvidia(files, pci.address, device);
  if (device.vendor == Vendor::kIntel) device.integrated = intel_integrated(pci.address);
  for (const std::string& name : files.list(pci.path + "/drm")) {
    if (const auto minor = parse_minor(name, "renderD")) device.render_minor = minor;
  }
  return device;
}

std::optional<std::string> read_driver(const NotedFiles& files, const std::string& path) {
  auto driver = files.link_name(path + "/driver");
  const auto is_module_character = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  };
  if (!driver || driver->empty() || driver->size() > 64 ||
      !std::ranges::all_of(*driver, is_module_character)) {
    return std::nullopt;
  }
  return driver;
}

// The PCI device behind a card, if it is one of a vendor whose GPUs compute.
std::optional<PciDevice> pci_device_of_card(const NotedFiles& files, const std::string& card) {
  PciDevice pci{.path = "/sys/class/drm/" + card + "/device",
                .address = {},
                .vendor_id = 0,
                .driver = std::nullopt};
  const auto vendor_id = read_id(files, pci.path + "/vendor");
  if (!vendor_id) {
    files.note(card + " is no PCI device with a vendor; skipped.");
    return std::nullopt;
  }
  pci.vendor_id = *vendor_id;
  pci.driver = read_driver(files, pci.path);
  if (vendor_of_pci_id(pci.vendor_id) == Vendor::kOther) {
    files.note(fmt::format("{} (vendor {:#06x}, driver {}) is a display only; skipped.", card,
                           pci.vendor_id, pci.driver.value_or("none")));
    return std::nullopt;
  }
  const auto uevent = files.read(pci.path + "/uevent");
  auto address = uevent ? parse_uevent_address(*uevent) : std::nullopt;
  if (!address) {
    const auto target = files.link_name(pci.path);
    address = target ? parse_pci_address(*target) : std::nullopt;
  }
  if (!address) {
    files.note(card + " has no readable PCI address; skipped.");
    return std::nullopt;
  }
  pci.address = *std::move(address);
  return pci;
}

// A GPU by its PCI class: a display controller or, as AMD's Instincts, a processing accelerator.
// Intel's accelerators are NPUs.
std::optional<PciDevice> gpu_on_bus(const NotedFiles& files, const std::string& name,
                                    const std::string& address) {
  PciDevice pci{.path = "/sys/bus/pci/devices/" + name,
                .address = address,
                .vendor_id = 0,
                .driver = std::nullopt};
  const auto device_class = files.number(pci.path + "/class");
  const bool display = device_class && *device_class >> 16 == 0x03;
  const bool accelerator = device_class && *device_class >> 8 == 0x1200;
  if (!display && !accelerator) return std::nullopt;
  const auto vendor_id = read_id(files, pci.path + "/vendor");
  if (!vendor_id) return std::nullopt;
  const Vendor vendor = vendor_of_pci_id(*vendor_id);
  if (vendor == Vendor::kOther || (accelerator && vendor != Vendor::kAmd)) return std::nullopt;
  pci.vendor_id = *vendor_id;
  pci.driver = read_driver(files, pci.path);
  return pci;
}

bool holds(const std::vector<ObservedDevice>& devices, const std::string& address) {
  return std::ranges::any_of(devices,
                             [&](const ObservedDevice& d) { return d.pci_address == address; });
}

}  // namespace

Observation detect_drm(const HostFiles& host_files) {
  Observation observation;
  observation.source = Source::kDrm;
  const NotedFiles files(host_files, observation.notes);
  if (!files.exists("/sys/class/drm") && !files.exists("/sys/bus/pci/devices")) {
    observation.detail = "There is neither /sys/class/drm nor /sys/bus/pci/devices.";
    return observation;
  }
  std::vector<ObservedDevice>& devices = observation.devices;
  for (const std::string& name : files.list("/sys/class/drm")) {
    if (!parse_minor(name, "card")) continue;
    const auto pci = pci_device_of_card(files, name);
    if (pci && !holds(devices, pci->address)) devices.push_back(observe(files, *pci));
  }
  for (const std::string& name : files.list("/sys/bus/pci/devices")) {
    const auto address = parse_pci_address(name);
    if (!address || holds(devices, *address)) continue;
    const auto pci = gpu_on_bus(files, name, *address);
    if (!pci) continue;
    devices.push_back(observe(files, *pci));
    if (!pci->driver) {
      files.note(fmt::format("{} ({}) has no driver.", *address,
                             name_of(vendor_of_pci_id(pci->vendor_id))));
    }
  }
  std::ranges::sort(devices, {}, &ObservedDevice::pci_address);
  observation.outcome = devices.empty() ? Outcome::kNoDevices : Outcome::kFound;
  return observation;
}

}  // namespace yoke::hardware
