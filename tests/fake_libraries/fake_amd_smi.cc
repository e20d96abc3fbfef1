// Stands in for libamd_smi.so: a Strix Halo, whose socket holds its processor too.
#include <cstdint>
#include <cstring>

#include "behaviour.h"

namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
bool initialised = false;

struct Processor {
  std::uint32_t type;
  std::uint64_t bdf;
};
Processor processors[300];

std::string_view mode() { return fake::mode("FAKE_AMD_SMI"); }

std::uint32_t processor_count() { return mode() == "many" ? 300 : 2; }

// The chip's description: strings of 64 bytes before 2025, of 256 since.
struct OldAsicInfo {
  char market_name[256];
  std::uint32_t vendor_id;
  char vendor_name[64];
  std::uint32_t subvendor_id;
  std::uint64_t device_id;
  std::uint32_t rev_id;
  char asic_serial[32];
  std::uint32_t oam_id;
  std::uint32_t num_of_compute_units;
  std::uint64_t target_graphics_version;
  std::uint32_t reserved[15];
};
struct NewAsicInfo {
  char market_name[256];
  std::uint32_t vendor_id;
  char vendor_name[256];
  std::uint32_t subvendor_id;
  std::uint64_t device_id;
  std::uint32_t rev_id;
  char asic_serial[256];
  std::uint32_t oam_id;
  std::uint32_t num_of_compute_units;
  std::uint64_t target_graphics_version;
  std::uint32_t subsystem_id;
  std::uint32_t reserved[21];
};

template <class Info>
void fill(void* place) {
  Info info{};
  std::strcpy(info.market_name, "AMD Radeon 8060S Graphics");
  info.vendor_id = 0x1002;
  std::strcpy(info.vendor_name, "Advanced Micro Devices Inc. [AMD/ATI]");
  info.device_id = 0x1586;
  info.oam_id = 0xffffffff;
  info.target_graphics_version = mode() == "mi200" ? 0x9010 : 0x1151;
  if (mode() == "garbage") {
    std::memset(&info, 0xff, sizeof info);
    info.vendor_id = 0x1002;
    info.device_id = 0x1586;
  }
  std::memcpy(place, &info, sizeof info);
}

}  // namespace

FAKE_EXPORT int amdsmi_init(std::uint64_t flags) {
  fake::misbehave(mode());
  if (mode() == "error") return 34;
  if (flags != 2) return 1;
  // 0000:c5:00.0: function in 3 bits, device in 5, bus in 8, domain in 48.
  for (auto& processor : processors) processor = {1, 0xc5u << 8};
  processors[0] = {2, 0};
  initialised = true;
  return 0;
}

FAKE_EXPORT int amdsmi_get_lib_version(std::uint32_t* version) {
  if (FAKE_ABI == fake::kOld && !initialised) return 32;
  constexpr std::uint32_t kVersions[][4] = {{24, 7, 1, 0}, {26, 1, 0, 0}, {31, 4, 0, 0}};
  std::memcpy(version, kVersions[FAKE_ABI - 1], sizeof kVersions[0]);
  return 0;
}

FAKE_EXPORT int amdsmi_status_code_to_string(int status, const char** text) {
  *text = status == 34 ? "AMDSMI_STATUS_DRIVER_NOT_LOADED - Processor driver not loaded" : "other";
  return 0;
}

FAKE_EXPORT int amdsmi_get_socket_handles(std::uint32_t* count, void** handles) {
  const std::uint32_t there = mode() == "none" ? 0 : 1;
  if (handles != nullptr && *count > 0 && there > 0) handles[0] = processors;
  *count = there;
  return 0;
}

FAKE_EXPORT int amdsmi_get_processor_handles(void* /*socket*/, std::uint32_t* count,
                                             void** handles) {
  if (handles == nullptr) {
    *count = processor_count();
    return 0;
  }
  for (std::uint32_t i = 0; i < *count; ++i) handles[i] = &processors[i];
  return 0;
}

FAKE_EXPORT int amdsmi_get_processor_type(void* handle, std::uint32_t* type) {
  *type = static_cast<Processor*>(handle)->type;
  return 0;
}

FAKE_EXPORT int amdsmi_get_gpu_device_bdf(void* handle, std::uint64_t* bdf) {
  *bdf = mode() == "garbage" ? ~std::uint64_t{0} : static_cast<Processor*>(handle)->bdf;
  return 0;
}

FAKE_EXPORT int amdsmi_get_gpu_memory_total(void* /*handle*/, int kind, std::uint64_t* bytes) {
  *bytes = kind == 0 ? kGiB / 2 : 120 * kGiB;
  if (mode() == "garbage") *bytes = ~std::uint64_t{0};
  return 0;
}

FAKE_EXPORT int amdsmi_get_gpu_memory_usage(void* /*handle*/, int kind, std::uint64_t* bytes) {
  *bytes = kind == 0 ? kGiB / 4 : 3 * kGiB;
  return mode() == "garbage" ? 2 : 0;
}

FAKE_EXPORT int amdsmi_get_gpu_asic_info(void* /*handle*/, void* info) {
  if (FAKE_ABI == fake::kNew) std::abort();  // Its layout is nobody's guess.
  FAKE_ABI == fake::kOld ? fill<OldAsicInfo>(info) : fill<NewAsicInfo>(info);
  return 0;
}

FAKE_EXPORT int amdsmi_get_gpu_driver_info(void* /*handle*/, char* info) {
  if (FAKE_ABI == fake::kNew) std::abort();
  std::strcpy(info, "6.18.9-arch1-1");
  return 0;
}
