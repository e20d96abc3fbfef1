// The HIP runtime. The struct of properties has its version in the name of the function that fills
// it: hipGetDevicePropertiesR0600 since ROCm 6, hipGetDeviceProperties with the older one.
#include <array>
#include <cstdint>

#include "hardware/foreign_struct.h"
#include "hardware/library_probes.h"
#include "hardware/pci_address.h"

namespace yoke::hardware {
namespace {

using Status = int;

constexpr Status kNoDevice = 100;

// Offsets in hipDeviceProp_t; the name is in front.
struct Layout {
  std::size_t total_memory;
  std::size_t integrated;
  std::size_t arch;
};
constexpr Layout kR0600{288, 396, 1160};
constexpr Layout kR0000{256, 652, 396};
constexpr std::size_t kTextSize = 256;

struct Api {
  Status (*properties)(void*, int device);
  Layout layout;
  Status (*pci_bus_id)(char*, int size, int device);  // These may be null.
  Status (*set_device)(int device);
  Status (*memory)(std::size_t* free, std::size_t* total);
  const char* (*text)(Status);
};

Result<Api> load(const DynamicLibrary& library) {
  Api api{};
  api.properties = library.find<Status(void*, int)>("hipGetDevicePropertiesR0600");
  api.layout = kR0600;
  if (api.properties == nullptr) {
    YOKE_TRY(api.properties, library.function<Status(void*, int)>("hipGetDeviceProperties"));
    api.layout = kR0000;
  }
  api.pci_bus_id = library.find<Status(char*, int, int)>("hipDeviceGetPCIBusId");
  api.set_device = library.find<Status(int)>("hipSetDevice");
  api.memory = library.find<Status(std::size_t*, std::size_t*)>("hipMemGetInfo");
  api.text = library.find<const char*(Status)>("hipGetErrorString");
  return api;
}

std::string describe(const Api& api, Status status) {
  const char* const text = api.text == nullptr ? nullptr : api.text(status);
  return text == nullptr ? fmt::format("status {}", status) : fmt::format("{} ({})", text, status);
}

// 60443482 is 6.4.43482.
std::string runtime_version(const DynamicLibrary& library) {
  int version = 0;
  if (auto* const get = library.find<Status(int*)>("hipRuntimeGetVersion");
      get == nullptr || get(&version) != 0 || version <= 0) {
    return {};
  }
  return fmt::format("{}.{}.{}", version / 10'000'000, version / 100'000 % 100, version % 100'000);
}

void read_properties(const Api& api, int index, ObservedDevice& device, Observation& observation) {
  ForeignStruct properties;
  if (const Status status = api.properties(properties.data(), index); status != 0) {
    observation.notes.push_back(
        fmt::format("HIP does not describe device {}: {}.", index, describe(api, status)));
    return;
  }
  if (auto name = properties.text(0, kTextSize); !name.empty()) device.name = std::move(name);
  // "gfx90a:sramecc+:xnack-"
  const std::string arch = properties.text(api.layout.arch, kTextSize);
  if (!arch.starts_with("gfx")) {
    observation.notes.push_back(
        fmt::format("HIP {} describes device {} in a form that Yoke does not know.",
                    observation.version, index));
    return;
  }
  device.gfx = arch.substr(0, arch.find(':'));
  device.memory_total = properties.at<std::uint64_t>(api.layout.total_memory);
  device.integrated = properties.at<int>(api.layout.integrated) != 0;
}

ObservedDevice read_gpu(const Api& api, int index, Observation& observation) {
  ObservedDevice device;
  device.vendor = Vendor::kAmd;
  if (std::array<char, 64> bus_id{};
      api.pci_bus_id != nullptr &&
      api.pci_bus_id(bus_id.data(), static_cast<int>(bus_id.size()) - 1, index) == 0) {
    device.pci_address = parse_pci_address(bus_id.data());
  }
  read_properties(api, index, device, observation);
  if (std::size_t free = 0, total = 0; api.set_device != nullptr && api.memory != nullptr &&
                                       api.set_device(index) == 0 &&
                                       api.memory(&free, &total) == 0) {
    device.memory_total = total;
    device.memory_free = free;
  }
  return device;
}

}  // namespace

Result<void> probe_hip(const DynamicLibrary& library, Observation& observation) {
  YOKE_TRY(auto* const get_count, library.function<Status(int*)>("hipGetDeviceCount"));
  YOKE_TRY(const auto api, load(library));
  observation.version = runtime_version(library);
  int count = 0;
  if (const Status status = get_count(&count); status != 0) {
    if (status == kNoDevice) return {};
    return fail(kIo, fmt::format("HIP did not start: {}.", describe(api, status)));
  }
  count = limited_count(count, observation);
  for (int index = 0; index < count; ++index) {
    observation.devices.push_back(read_gpu(api, index, observation));
  }
  return {};
}

}  // namespace yoke::hardware
