// Stands in for libnvidia-ml.so.1: an RTX 4090, or a GB10, which has no memory of its own.
#include <cstdint>
#include <cstring>

#include "behaviour.h"

namespace {

struct Memory {
  unsigned long long total, free, used;
};

struct PciInfo {
  char bus_id_legacy[16];
  unsigned domain, bus, device, pci_device_id, subsystem_id;
  char bus_id[32];
};
constexpr std::size_t kOldPciInfoSize = 36;

std::string_view mode() { return fake::mode("FAKE_NVML"); }

[[maybe_unused]] void fill_pci(void* place, std::size_t size) {
  PciInfo info{};
  std::strcpy(info.bus_id_legacy, "0000:01:00.0");
  info.bus = 1;
  info.pci_device_id = 0x268410de;
  std::strcpy(info.bus_id, "00000000:01:00.0");
  if (mode() == "garbage") std::memset(&info, 0xff, sizeof info);
  std::memcpy(place, &info, size);
}

}  // namespace

FAKE_EXPORT int nvmlInit_v2() {
  fake::misbehave(mode());
  return mode() == "error" ? 9 : 0;
}

FAKE_EXPORT const char* nvmlErrorString(int status) {
  return status == 9 ? "Driver Not Loaded" : "Unknown Error";
}

FAKE_EXPORT int nvmlSystemGetDriverVersion(char* text, unsigned size) {
  std::strncpy(text, "580.95.05", size);
  return 0;
}

FAKE_EXPORT int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = mode() == "none" ? 0 : mode() == "many" ? 300 : mode() == "lost" ? 2 : 1;
  return 0;
}

FAKE_EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** handle) {
  *handle = handle;
  return mode() == "lost" && index == 0 ? 15 : 0;
}

FAKE_EXPORT int nvmlDeviceGetName(void* /*device*/, char* name, unsigned size) {
  if (mode() == "garbage") {
    std::memset(name, 0x9b, size);
  } else {
    std::strncpy(name, mode() == "gb10" ? "NVIDIA GB10" : "NVIDIA GeForce RTX 4090", size);
  }
  return 0;
}

FAKE_EXPORT int nvmlDeviceGetMemoryInfo(void* /*device*/, Memory* memory) {
  if (mode() == "gb10") return 3;
  *memory = {25'757'220'864ull, 25'000'000'000ull, 757'220'864ull};
  return 0;
}

FAKE_EXPORT int nvmlDeviceGetCudaComputeCapability(void* /*device*/, int* major, int* minor) {
  *major = mode() == "garbage" ? -5 : 8;
  *minor = 9;
  return 0;
}

#if FAKE_ABI == 1
FAKE_EXPORT int nvmlDeviceGetPciInfo_v2(void* /*device*/, void* info) {
  fill_pci(info, kOldPciInfoSize);
  return 0;
}
#else
FAKE_EXPORT int nvmlDeviceGetPciInfo_v3(void* /*device*/, void* info) {
  if (FAKE_ABI == fake::kNew) std::memset(info, 0x55, 4096);  // Fields of years to come.
  fill_pci(info, sizeof(PciInfo));
  return 0;
}

FAKE_EXPORT int nvmlDeviceGetPersistenceMode(void* /*device*/, unsigned* enabled) {
  *enabled = 1;
  return 0;
}
#endif
