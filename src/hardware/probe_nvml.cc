// NVML, the management library of NVIDIA's driver.
#include <array>
#include <cstdint>

#include "hardware/foreign_struct.h"
#include "hardware/library_probes.h"
#include "hardware/pci_address.h"

namespace yoke::hardware {
namespace {

using Status = int;
using Handle = void*;

constexpr Status kNotSupported = 3;
constexpr Status kNotFound = 6;

// Offsets in nvmlPciInfo_t; version 2 ends before the long address.
constexpr std::size_t kDomainOffset = 16;
constexpr std::size_t kBusOffset = 20;
constexpr std::size_t kDeviceOffset = 24;
constexpr std::size_t kPciIdOffset = 28;  // The device's in the upper half, the vendor's below.
constexpr std::size_t kBusIdOffset = 36;
constexpr std::size_t kBusIdSize = 32;

struct Memory {
  std::uint64_t total = 0;
  std::uint64_t free = 0;
  std::uint64_t used = 0;
};

struct Api {
  Status (*handle)(unsigned index, Handle*);
  Status (*name)(Handle, char*, unsigned size);
  Status (*memory)(Handle, Memory*);
  Status (*pci)(Handle, void*);  // The rest may be null.
  Status (*capability)(Handle, int* major, int* minor);
  Status (*persistence)(Handle, unsigned* enabled);
  const char* (*text)(Status);
};

Result<Api> load(const DynamicLibrary& library) {
  Api api{};
  YOKE_TRY(api.handle,
           library.function<Status(unsigned, Handle*)>("nvmlDeviceGetHandleByIndex_v2"));
  YOKE_TRY(api.name, library.function<Status(Handle, char*, unsigned)>("nvmlDeviceGetName"));
  YOKE_TRY(api.memory, library.function<Status(Handle, Memory*)>("nvmlDeviceGetMemoryInfo"));
  api.pci = library.find<Status(Handle, void*)>("nvmlDeviceGetPciInfo_v3");
  if (api.pci == nullptr) api.pci = library.find<Status(Handle, void*)>("nvmlDeviceGetPciInfo_v2");
  api.capability = library.find<Status(Handle, int*, int*)>("nvmlDeviceGetCudaComputeCapability");
  api.persistence = library.find<Status(Handle, unsigned*)>("nvmlDeviceGetPersistenceMode");
  api.text = library.find<const char*(Status)>("nvmlErrorString");
  return api;
}

std::string describe(const Api& api, Status status) {
  const char* const text = api.text == nullptr ? nullptr : api.text(status);
  return text == nullptr ? fmt::format("status {}", status) : fmt::format("{} ({})", text, status);
}

std::string driver_version(const DynamicLibrary& library) {
  std::array<char, 256> text{};
  if (auto* const get = library.find<Status(char*, unsigned)>("nvmlSystemGetDriverVersion");
      get == nullptr || get(text.data(), text.size() - 1) != 0) {
    return {};
  }
  return text.data();
}

void read_pci(const Api& api, Handle gpu, ObservedDevice& device) {
  ForeignStruct info;
  if (api.pci == nullptr || api.pci(gpu, info.data()) != 0) return;
  device.pci_address = parse_pci_address(info.text(kBusIdOffset, kBusIdSize));
  if (!device.pci_address) {
    device.pci_address =
        pci_address(info.at<std::uint32_t>(kDomainOffset), info.at<std::uint32_t>(kBusOffset),
                    info.at<std::uint32_t>(kDeviceOffset), 0);
  }
  if (const auto id = info.at<std::uint32_t>(kPciIdOffset); (id & 0xffff) == 0x10de) {
    device.pci_device_id = id >> 16;
  }
}

void read_memory(const Api& api, Handle gpu, ObservedDevice& device, Observation& observation) {
  Memory memory;
  const Status status = api.memory(gpu, &memory);
  if (status == 0) {
    device.memory_total = memory.total;
    device.memory_free = memory.free;
    return;
  }
  observation.notes.push_back(
      status == kNotSupported
          ? fmt::format("{} has no memory of its own that NVML could tell of.",
                        device.name.value_or("A device"))
          : fmt::format("NVML does not tell the memory of {}: {}.",
                        device.name.value_or("a device"), describe(api, status)));
}

ObservedDevice read_gpu(const Api& api, Handle gpu, Observation& observation) {
  ObservedDevice device;
  device.vendor = Vendor::kNvidia;
  device.driver = "nvidia";
  if (!observation.version.empty()) device.driver_version = observation.version;
  std::array<char, 256> name{};
  if (api.name(gpu, name.data(), name.size() - 1) == 0 && name[0] != '\0') {
    device.name = name.data();
  }
  read_pci(api, gpu, device);
  read_memory(api, gpu, device, observation);
  if (ComputeCapability capability;
      api.capability != nullptr && api.capability(gpu, &capability.major, &capability.minor) == 0) {
    device.compute_capability = capability;
  }
  if (unsigned enabled = 0; api.persistence != nullptr && api.persistence(gpu, &enabled) == 0) {
    device.persistence = enabled != 0;
  }
  return device;
}

}  // namespace

Result<void> probe_nvml(const DynamicLibrary& library, Observation& observation) {
  YOKE_TRY(auto* const init, library.function<Status()>("nvmlInit_v2"));
  YOKE_TRY(auto* const get_count, library.function<Status(unsigned*)>("nvmlDeviceGetCount_v2"));
  YOKE_TRY(const auto api, load(library));
  if (const Status status = init(); status != 0) {
    if (status == kNotFound) return {};
    return fail(kIo, fmt::format("NVML did not start: {}.", describe(api, status)));
  }
  observation.version = driver_version(library);
  unsigned count = 0;
  if (const Status status = get_count(&count); status != 0) {
    return fail(kIo, fmt::format("NVML lists no devices: {}.", describe(api, status)));
  }
  count = limited_count(count, observation);
  for (unsigned index = 0; index < count; ++index) {
    Handle gpu = nullptr;
    if (const Status status = api.handle(index, &gpu); status != 0) {
      observation.notes.push_back(
          fmt::format("NVML can't reach device {}: {}.", index, describe(api, status)));
      continue;
    }
    observation.devices.push_back(read_gpu(api, gpu, observation));
  }
  return {};
}

}  // namespace yoke::hardware
