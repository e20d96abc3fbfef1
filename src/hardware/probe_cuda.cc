// The CUDA driver. No context is created, as that takes hundreds of megabytes on the device; what
// is free there is NVML's to say.
#include <array>
#include <cstdint>

#include "hardware/library_probes.h"
#include "hardware/pci_address.h"

namespace yoke::hardware {
namespace {

using Status = int;
using DeviceHandle = int;

constexpr Status kNoDevice = 100;

// CUdevice_attribute
constexpr int kIntegrated = 18;
constexpr int kPciBus = 33;
constexpr int kPciDevice = 34;
constexpr int kPciDomain = 50;
constexpr int kCapabilityMajor = 75;
constexpr int kCapabilityMinor = 76;

struct Api {
  Status (*device)(DeviceHandle*, int index);
  Status (*attribute)(int* value, int attribute, DeviceHandle);
  Status (*name)(char*, int size, DeviceHandle);
  Status (*total)(std::size_t*, DeviceHandle);  // These may be null.
  Status (*pci_bus_id)(char*, int size, DeviceHandle);
  Status (*error_text)(Status, const char**);
};

Result<Api> load(const DynamicLibrary& library) {
  Api api{};
  YOKE_TRY(api.device, library.function<Status(DeviceHandle*, int)>("cuDeviceGet"));
  YOKE_TRY(api.attribute,
           library.function<Status(int*, int, DeviceHandle)>("cuDeviceGetAttribute"));
  YOKE_TRY(api.name, library.function<Status(char*, int, DeviceHandle)>("cuDeviceGetName"));
  api.total = library.find<Status(std::size_t*, DeviceHandle)>("cuDeviceTotalMem_v2");
  api.pci_bus_id = library.find<Status(char*, int, DeviceHandle)>("cuDeviceGetPCIBusId");
  api.error_text = library.find<Status(Status, const char**)>("cuGetErrorString");
  return api;
}

std::string describe(const Api& api, Status status) {
  const char* text = nullptr;
  if (api.error_text == nullptr || api.error_text(status, &text) != 0 || text == nullptr) {
    return fmt::format("status {}", status);
  }
  return fmt::format("{} ({})", text, status);
}

// 12040 is 12.4.
std::string cuda_version(const DynamicLibrary& library) {
  int version = 0;
  if (auto* const get = library.find<Status(int*)>("cuDriverGetVersion");
      get == nullptr || get(&version) != 0 || version <= 0) {
    return {};
  }
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

std::optional<int> attribute(const Api& api, int which, DeviceHandle gpu) {
  int value = 0;
  if (api.attribute(&value, which, gpu) != 0 || value < 0) return std::nullopt;
  return value;
}

std::optional<std::string> address_of(const Api& api, DeviceHandle gpu) {
  if (std::array<char, 64> bus_id{};
      api.pci_bus_id != nullptr &&
      api.pci_bus_id(bus_id.data(), static_cast<int>(bus_id.size()) - 1, gpu) == 0) {
    return parse_pci_address(bus_id.data());
  }
  const auto domain = attribute(api, kPciDomain, gpu);
  const auto bus = attribute(api, kPciBus, gpu);
  const auto device = attribute(api, kPciDevice, gpu);
  if (!bus || !device) return std::nullopt;
  return pci_address(static_cast<std::uint64_t>(domain.value_or(0)),
                     static_cast<std::uint64_t>(*bus), static_cast<std::uint64_t>(*device), 0);
}

ObservedDevice read_gpu(const Api& api, DeviceHandle gpu) {
  ObservedDevice device;
  device.vendor = Vendor::kNvidia;
  device.pci_address = address_of(api, gpu);
  std::array<char, 256> name{};
  if (api.name(name.data(), static_cast<int>(name.size()) - 1, gpu) == 0 && name[0] != '\0') {
    device.name = name.data();
  }
  if (std::size_t total = 0; api.total != nullptr && api.total(&total, gpu) == 0) {
    device.memory_total = total;
  }
  const auto major = attribute(api, kCapabilityMajor, gpu);
  const auto minor = attribute(api, kCapabilityMinor, gpu);
  if (major && minor) device.compute_capability = ComputeCapability{*major, *minor};
  if (const auto integrated = attribute(api, kIntegrated, gpu))
    device.integrated = *integrated != 0;
  return device;
}

}  // namespace

Result<void> probe_cuda(const DynamicLibrary& library, Observation& observation) {
  YOKE_TRY(auto* const init, library.function<Status(unsigned)>("cuInit"));
  YOKE_TRY(auto* const get_count, library.function<Status(int*)>("cuDeviceGetCount"));
  YOKE_TRY(const auto api, load(library));
  observation.version = cuda_version(library);
  if (const Status status = init(0); status != 0) {
    if (status == kNoDevice) return {};
    return fail(kIo, fmt::format("CUDA did not start: {}.", describe(api, status)));
  }
  int count = 0;
  if (const Status status = get_count(&count); status != 0) {
    return fail(kIo, fmt::format("CUDA lists no devices: {}.", describe(api, status)));
  }
  count = limited_count(count, observation);
  for (int index = 0; index < count; ++index) {
    DeviceHandle gpu = 0;
    if (const Status status = api.device(&gpu, index); status != 0) {
      observation.notes.push_back(
          fmt::format("CUDA can't reach device {}: {}.", index, describe(api, status)));
      continue;
    }
    observation.devices.push_back(read_gpu(api, gpu));
  }
  return {};
}

}  // namespace yoke::hardware
