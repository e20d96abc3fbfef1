// AMD SMI. Its structs changed with its versions (24: strings of 64 bytes, 26: of 256 and new
// fields), so sizes and addresses come from the functions with plain numbers, and the one struct
// that names the chip is read only in the versions whose layout is known.
#include <array>
#include <cstdint>
#include <limits>

#include "hardware/foreign_struct.h"
#include "hardware/library_probes.h"
#include "hardware/pci_address.h"

namespace yoke::hardware {
namespace {

using Status = int;
using Handle = void*;

constexpr Status kNotFound = 31;
constexpr std::uint64_t kInitGpus = 1u << 1;
constexpr std::uint32_t kAmdGpu = 1;
constexpr int kVram = 0;
constexpr int kGtt = 2;

// Offsets in amdsmi_asic_info_t; the name is in front.
struct AsicLayout {
  std::size_t device_id;
  std::size_t graphics_version;
};
constexpr std::size_t kNameSize = 256;
constexpr std::size_t kVendorIdOffset = 256;
constexpr AsicLayout kStringsOf64{328, 384};
constexpr AsicLayout kStringsOf256{520, 800};
constexpr std::uint32_t kOldestKnown = 24;
constexpr std::uint32_t kNewestKnown = 26;

struct Api {
  Status (*processors)(Handle socket, std::uint32_t* count, Handle* handles);
  Status (*type)(Handle, std::uint32_t* type);
  Status (*bdf)(Handle, std::uint64_t* bdf);
  Status (*memory_total)(Handle, int kind, std::uint64_t* bytes);
  Status (*memory_usage)(Handle, int kind, std::uint64_t* bytes);
  Status (*asic_info)(Handle, void* info);    // May be null.
  Status (*driver_info)(Handle, void* info);  // May be null.
  bool structs_known = false;
};

Result<Api> load(const DynamicLibrary& library) {
  Api api{};
  YOKE_TRY(api.processors, library.function<Status(Handle, std::uint32_t*, Handle*)>(
                               "amdsmi_get_processor_handles"));
  YOKE_TRY(api.type, library.function<Status(Handle, std::uint32_t*)>("amdsmi_get_processor_type"));
  YOKE_TRY(api.bdf, library.function<Status(Handle, std::uint64_t*)>("amdsmi_get_gpu_device_bdf"));
  YOKE_TRY(api.memory_total,
           library.function<Status(Handle, int, std::uint64_t*)>("amdsmi_get_gpu_memory_total"));
  YOKE_TRY(api.memory_usage,
           library.function<Status(Handle, int, std::uint64_t*)>("amdsmi_get_gpu_memory_usage"));
  api.asic_info = library.find<Status(Handle, void*)>("amdsmi_get_gpu_asic_info");
  api.driver_info = library.find<Status(Handle, void*)>("amdsmi_get_gpu_driver_info");
  return api;
}

std::string describe(const DynamicLibrary& library, Status status) {
  const char* text = nullptr;
  if (auto* const describe_status =
          library.find<Status(Status, const char**)>("amdsmi_status_code_to_string");
      describe_status != nullptr && describe_status(status, &text) == 0 && text != nullptr) {
    return fmt::format("{} ({})", text, status);
  }
  return fmt::format("status {}", status);
}

// True if the structs are those that this file knows. Up to 25 the year stands before the version,
// as in "24.7.1", so that the first number is the ABI's everywhere.
bool read_version(const DynamicLibrary& library, Observation& observation) {
  ForeignStruct version;
  if (auto* const get = library.find<Status(void*)>("amdsmi_get_lib_version");
      get == nullptr || get(version.data()) != 0) {
    observation.notes.emplace_back(
        "AMD SMI does not tell its version: only sizes and addresses were read.");
    return false;
  }
  const auto abi = version.at<std::uint32_t>(0);
  observation.version =
      fmt::format("{}.{}.{}", abi, version.at<std::uint32_t>(4), version.at<std::uint32_t>(8));
  if (abi >= kOldestKnown && abi <= kNewestKnown) return true;
  observation.notes.push_back(
      fmt::format("AMD SMI {} is not among the versions that Yoke knows ({} to {}): only sizes and "
                  "addresses were read.",
                  observation.version, kOldestKnown, kNewestKnown));
  return false;
}

// 0x1151 is gfx1151. The MI200's 90a comes as 9010, with the step in decimal, from some versions.
std::optional<std::string> gfx_of(std::uint64_t version) {
  if (version >= 0x9010 && version <= 0x9015) return fmt::format("gfx90{:x}", version - 0x9006);
  if (version < 0x600 || version > 0x1fff) return std::nullopt;
  return fmt::format("gfx{:x}", version);
}

// The layout by what is at its places, as 25 came with either.
std::optional<AsicLayout> layout_of(const ForeignStruct& info) {
  if (info.at<std::uint32_t>(kVendorIdOffset) != 0x1002) return std::nullopt;
  for (const auto& layout : {kStringsOf256, kStringsOf64}) {
    const auto device = info.at<std::uint64_t>(layout.device_id);
    if (device > 0 && device <= 0xffff) return layout;
  }
  return std::nullopt;
}

void read_structs(const Api& api, Handle gpu, ObservedDevice& device, Observation& observation) {
  if (ForeignStruct info; api.asic_info != nullptr && api.asic_info(gpu, info.data()) == 0) {
    if (const auto layout = layout_of(info)) {
      if (auto name = info.text(0, kNameSize); !name.empty()) device.name = std::move(name);
      device.pci_device_id = static_cast<std::uint32_t>(info.at<std::uint64_t>(layout->device_id));
      device.gfx = gfx_of(info.at<std::uint64_t>(layout->graphics_version));
    } else {
      observation.notes.push_back(fmt::format(
          "AMD SMI {} describes the chip in a form that Yoke does not know.", observation.version));
    }
  }
  if (ForeignStruct info; api.driver_info != nullptr && api.driver_info(gpu, info.data()) == 0) {
    if (auto version = info.text(0, 64); !version.empty()) {
      device.driver_version = std::move(version);
    }
  }
}

// AMD SMI fills what it can't tell with ones.
std::optional<std::uint64_t> bytes_of(Status (*get)(Handle, int, std::uint64_t*), Handle gpu,
                                      int kind) {
  std::uint64_t bytes = 0;
  if (get(gpu, kind, &bytes) != 0 || bytes == std::numeric_limits<std::uint64_t>::max()) {
    return std::nullopt;
  }
  return bytes;
}

ObservedDevice read_gpu(const Api& api, Handle gpu, Observation& observation) {
  ObservedDevice device;
  device.vendor = Vendor::kAmd;
  // function:3, device:5, bus:8, domain:48
  if (std::uint64_t bdf = 0; api.bdf(gpu, &bdf) == 0) {
    device.pci_address = pci_address(bdf >> 16, (bdf >> 8) & 0xff, (bdf >> 3) & 0x1f, bdf & 7);
  }
  device.vram_total = bytes_of(api.memory_total, gpu, kVram);
  device.vram_used = bytes_of(api.memory_usage, gpu, kVram);
  device.gtt_total = bytes_of(api.memory_total, gpu, kGtt);
  device.gtt_used = bytes_of(api.memory_usage, gpu, kGtt);
  if (api.structs_known) read_structs(api, gpu, device, observation);
  return device;
}

void read_socket(const Api& api, Handle socket, Observation& observation) {
  std::uint32_t count = 0;
  if (api.processors(socket, &count, nullptr) != 0) return;
  count = limited_count(count, observation);
  std::vector<Handle> handles(count);
  if (count == 0 || api.processors(socket, &count, handles.data()) != 0) return;
  handles.resize(std::min<std::size_t>(count, handles.size()));
  for (Handle const handle : handles) {
    std::uint32_t type = 0;
    if (api.type(handle, &type) != 0 || type != kAmdGpu) continue;
    if (observation.devices.size() == kMostProbedDevices) return;
    observation.devices.push_back(read_gpu(api, handle, observation));
  }
}

}  // namespace

Result<void> probe_amd_smi(const DynamicLibrary& library, Observation& observation) {
  YOKE_TRY(auto* const init, library.function<Status(std::uint64_t)>("amdsmi_init"));
  YOKE_TRY(auto* const get_sockets,
           library.function<Status(std::uint32_t*, Handle*)>("amdsmi_get_socket_handles"));
  YOKE_TRY(auto api, load(library));
  if (const Status status = init(kInitGpus); status != 0) {
    if (status == kNotFound) return {};
    return fail(kIo, fmt::format("AMD SMI did not start: {}.", describe(library, status)));
  }
  api.structs_known = read_version(library, observation);  // Up to 24 only after the init.

  std::uint32_t count = 0;
  Status status = get_sockets(&count, nullptr);
  count = limited_count(count, observation);
  std::vector<Handle> sockets(count);
  if (status == 0 && count > 0) status = get_sockets(&count, sockets.data());
  if (status != 0 && status != kNotFound) {
    return fail(kIo, fmt::format("AMD SMI lists no sockets: {}.", describe(library, status)));
  }
  sockets.resize(std::min<std::size_t>(count, sockets.size()));
  for (Handle const socket : sockets) read_socket(api, socket, observation);
  return {};
}

}  // namespace yoke::hardware
