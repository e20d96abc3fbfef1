#include "doctor/gpu_memory.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/units.h"

namespace yoke::doctor {

using hardware::Device;
using hardware::Machine;

std::uint64_t host_reserve(std::uint64_t ram) { return std::max(4 * kGib, ram / 32); }

std::uint64_t recommended_gpu_memory(std::uint64_t ram) {
  const std::uint64_t reserve = std::min(2 * host_reserve(ram), ram / 2);
  return (ram - reserve) / kGib * kGib;
}

const Device* find_apu(const Machine& machine) {
  const auto found = std::find_if(machine.devices.begin(), machine.devices.end(), [](auto& device) {
    return device.vendor == hardware::Vendor::kAmd && !device.software && device.integrated &&
           device.integrated->value && device.architecture != hardware::Architecture::kCdna;
  });
  return found == machine.devices.end() ? nullptr : &*found;
}

Result<std::uint64_t> pages_for(std::uint64_t bytes, const Machine& machine) {
  const Device* apu = find_apu(machine);
  if (apu == nullptr) {
    return fail(kGpuMemoryRefused,
                "No AMD APU was found here, and only an APU's GPU maps the host's memory.",
                "`yoke detect` shows what was found.");
  }
  const std::uint64_t ram = machine.host.memory.total;
  const std::uint64_t reserve = host_reserve(ram);
  if (bytes < kGib) {
    return fail(kGpuMemoryRefused,
                fmt::format("{} for the GPU is less than 1 GiB.", format_memory(bytes)),
                "Give a size like 96GiB.");
  }
  if (ram <= reserve || bytes > ram - reserve) {
    const std::uint64_t carve_out = apu->memory.carve_out.value_or(0);
    const std::string most = format_memory(ram > reserve ? ram - reserve : 0);
    std::string hint = fmt::format("At most {} are possible.", most);
    if (carve_out > 4 * kGib) {
      hint += fmt::format(
          " The firmware set {} more aside for the GPU: set its carve-out (UMA frame buffer) to "
          "the "
          "smallest size in the BIOS first, and they are part of the memory again.",
          format_memory(carve_out));
    }
    return fail(
        kGpuMemoryRefused,
        bytes > ram
            ? fmt::format("{} for the GPU is more than the {} that the system sees.",
                          format_memory(bytes), format_memory(ram))
            : fmt::format("{} for the GPU would leave the system {} of its {}; it needs {}.",
                          format_memory(bytes), format_memory(ram - bytes), format_memory(ram),
                          format_memory(reserve)),
        std::move(hint));
  }
  return bytes / kTtmPage;
}

std::optional<std::uint64_t> meant_by_common_mistake(std::uint64_t pages) {
  constexpr std::uint64_t kWrongPagesPerGib = 256'000;  // 1024 * 1024 / 4.096
  const bool wrong = pages != 0 && pages % kWrongPagesPerGib == 0 && pages % kPagesPerGib != 0;
  if (!wrong) return std::nullopt;
  return pages / kWrongPagesPerGib;
}

}  // namespace yoke::doctor
