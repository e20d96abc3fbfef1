// Stands in for libcuda.so.1: an RTX 4060 of a laptop.
#include <cstdint>
#include <cstring>

#include "behaviour.h"

namespace {

std::string_view mode() { return fake::mode("FAKE_CUDA"); }

}  // namespace

FAKE_EXPORT int cuInit(unsigned /*flags*/) {
  fake::misbehave(mode());
  return mode() == "error" ? 803 : mode() == "none" ? 100 : 0;
}

FAKE_EXPORT int cuDriverGetVersion(int* version) {
  constexpr int kVersions[] = {3020, 12'080, 14'020};
  *version = kVersions[FAKE_ABI - 1];
  return 0;
}

FAKE_EXPORT int cuGetErrorString(int status, const char** text) {
  *text = status == 803 ? "system has unsupported display driver / cuda driver combination" : "?";
  return 0;
}

FAKE_EXPORT int cuDeviceGetCount(int* count) {
  *count = mode() == "many" ? 300 : 1;
  return 0;
}

FAKE_EXPORT int cuDeviceGet(int* device, int index) {
  *device = index;
  return 0;
}

FAKE_EXPORT int cuDeviceGetName(char* name, int size, int /*device*/) {
  if (mode() == "garbage") {
    std::memset(name, 0x07, static_cast<std::size_t>(size));
  } else {
    std::strncpy(name, "NVIDIA GeForce RTX 4060 Laptop GPU", static_cast<std::size_t>(size));
  }
  return 0;
}

FAKE_EXPORT int cuDeviceGetAttribute(int* value, int attribute, int /*device*/) {
  switch (attribute) {
    case 18:
      *value = 0;
      break;  // Integrated.
    case 33:
      *value = 0x64;
      break;  // PCI bus, device and domain.
    case 34:
      *value = 0;
      break;
    case 50:
      *value = 0;
      break;
    case 75:
      *value = 8;
      break;  // Compute capability.
    case 76:
      *value = 9;
      break;
    default:
      return 1;
  }
  if (mode() == "garbage") *value = -1;
  return 0;
}

#if FAKE_ABI != 1
FAKE_EXPORT int cuDeviceTotalMem_v2(std::size_t* bytes, int /*device*/) {
  *bytes = 8'585'216'000;
  return mode() == "garbage" ? 1 : 0;
}

FAKE_EXPORT int cuDeviceGetPCIBusId(char* text, int size, int /*device*/) {
  std::strncpy(text, mode() == "garbage" ? "::::....." : "0000:64:00.0",
               static_cast<std::size_t>(size));
  return 0;
}
#endif
