// Stands in for libamdhip64.so: an MI210, which names its features behind its gfx version.
#include <cstdint>
#include <cstring>

#include "behaviour.h"

namespace {

constexpr std::uint64_t kTotal = std::uint64_t{64} << 30;

std::string_view mode() { return fake::mode("FAKE_HIP"); }

// Those of the variables that are there and concern the probes.
std::string environment() {
  std::string found;
  for (const char* const name :
       {"CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
        "GGML_VK_VISIBLE_DEVICES", "HSA_OVERRIDE_GFX_VERSION", "VK_LOADER_LAYERS_DISABLE"}) {
    if (const char* const value = std::getenv(name)) found += std::string(name) + "=" + value;
  }
  return found;
}

// The offsets are those of ROCm's headers: 6.0 and later, and before.
void fill(char* properties, std::size_t total, std::size_t integrated, std::size_t arch) {
  const int flag = 0;
  std::strcpy(properties, "AMD Instinct MI210");
  if (mode() == "environment") std::strcpy(properties, environment().c_str());
  std::memcpy(properties + total, &kTotal, sizeof kTotal);
  std::memcpy(properties + integrated, &flag, sizeof flag);
  std::strcpy(properties + arch, "gfx90a:sramecc+:xnack-");
  if (mode() == "garbage") std::memset(properties, 0xee, arch + 256);
}

}  // namespace

FAKE_EXPORT int hipGetDeviceCount(int* count) {
  fake::misbehave(mode());
  *count = mode() == "many" ? 300 : mode() == "negative" ? -3 : 1;
  return mode() == "error" ? 35 : mode() == "none" ? 100 : 0;
}

FAKE_EXPORT int hipRuntimeGetVersion(int* version) {
  constexpr int kVersions[] = {50'731'921, 70'151'831, 90'100'000};
  *version = kVersions[FAKE_ABI - 1];
  return 0;
}

FAKE_EXPORT const char* hipGetErrorString(int status) {
  return status == 35 ? "CUDA driver is insufficient for runtime version" : "unknown error";
}

#if FAKE_ABI == 1
FAKE_EXPORT int hipGetDeviceProperties(char* properties, int /*device*/) {
  fill(properties, 256, 652, 396);
  return 0;
}
#else
FAKE_EXPORT int hipGetDevicePropertiesR0600(char* properties, int /*device*/) {
  if (FAKE_ABI == fake::kNew) {
    fill(properties, 2000, 2100, 3000);
  } else {
    fill(properties, 288, 396, 1160);
  }
  return 0;
}
#endif

FAKE_EXPORT int hipDeviceGetPCIBusId(char* text, int size, int /*device*/) {
  std::strncpy(text, mode() == "garbage" ? "no address" : "0000:C1:00.0",
               static_cast<std::size_t>(size));
  return 0;
}

FAKE_EXPORT int hipSetDevice(int /*device*/) { return 0; }

FAKE_EXPORT int hipMemGetInfo(std::size_t* free, std::size_t* total) {
  *free = kTotal - (std::size_t{1} << 30);
  *total = kTotal;
  return mode() == "garbage" ? 1 : 0;
}
