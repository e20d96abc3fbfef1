// The parsers of the kernel's text files. The first byte of an input names the file, the rest is
// its content. Beyond not crashing, what they hand on must be bounded and fit to be shown.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "hardware/device_text.h"
#include "hardware/host_parts.h"
#include "hardware/host_text.h"
#include "hardware/kernel_devices.h"
#include "hardware/mounts.h"
#include "hardware/pci_address.h"
#include "hardware/text_fields.h"

namespace {

using namespace yoke::hardware;

void require(bool holds) {
  if (!holds) std::abort();
}

void require_printable(std::string_view text, std::size_t longest) {
  require(text.size() <= longest);
  require(std::ranges::all_of(text, [](char c) { return c >= 0x20 && c <= 0x7e; }));
}

void drm_uevent(std::string_view text) {
  const auto address = parse_uevent_address(text);
  if (!address) return;
  require_printable(*address, 20);
  require(parse_pci_address(*address) == address);
}

void nvidia(std::string_view text) {
  if (const auto version = parse_nvidia_version(text)) require_printable(*version, 32);
  if (const auto model = parse_nvidia_model(text)) require_printable(*model, 83);
}

void kfd_node(std::string_view text) {
  const auto node = parse_kfd_node(text);
  if (!node) return;
  require_printable(gfx_of_target_version(node->gfx_target_version), 8);
  if (node->pci_address) require(parse_pci_address(*node->pci_address) == node->pci_address);
  require(node->device_id.value_or(0) <= 0xffff);
  require(node->render_minor.value_or(128) >= 128);
}

void kfd_bank(std::string_view text) { require(parse_kfd_bank(text).value_or(0) <= kLargestSize); }

void cpuinfo(std::string_view text) {
  const CpuInfo info = parse_cpuinfo(text);
  require_printable(info.name, 400);
  require(info.processors >= 0 && info.cores >= 0 && info.sockets >= 0);
}

void meminfo(std::string_view text) {
  const auto memory = parse_meminfo(text);
  if (!memory) return;
  require(memory->total <= kLargestSize);
  require(memory->available <= memory->total && memory->swap_free <= memory->swap_total);
}

void cmdline(std::string_view text) {
  const auto arguments = parse_kernel_arguments(text);
  require(arguments.size() <= text.size());
  for (const std::string& argument : arguments) {
    require(!argument.empty());
    require_printable(argument, 4099);
  }
}

void os_release(std::string_view text) {
  const OsRelease release = parse_os_release(text);
  for (const auto* value : {&release.pretty_name, &release.id, &release.id_like}) {
    require_printable(*value, 83);
  }
}

void kernel_version(std::string_view text) {
  const auto version = parse_kernel_version(text);
  if (version) require(version->major >= 0 && version->minor >= 0 && version->patch >= 0);
}

// mountinfo and cgroup in one input, divided by a zero byte.
void cgroup(std::string_view text) {
  const std::size_t middle = std::min(text.find('\0'), text.size());
  const auto mounts = parse_mounts(text.substr(0, middle));
  const auto cgroups = parse_cgroups(text.substr(std::min(middle + 1, text.size())));
  require(mounts.size() <= 4096 && cgroups.size() <= 64);
  for (std::size_t i = 0; i < std::min<std::size_t>(mounts.size(), 4); ++i) {
    for (const CgroupPath& path : cgroups) {
      for (const std::string& directory : cgroup_directories(mounts[i], path.path)) {
        require(directory.starts_with(mounts[i].point));
        require(directory.find("/../", mounts[i].point.size()) == std::string::npos);
      }
    }
  }
}

void cpu_max(std::string_view text) {
  const auto [cpus, valid] = parse_cpu_max(text);
  require(!cpus || (valid && *cpus > 0));
}

void number_list(std::string_view text) {
  const auto numbers = parse_number_list(text);
  if (!numbers) return;
  require(numbers->size() <= 8192);
  require(std::ranges::all_of(*numbers, [](int n) { return n >= 0 && n <= 8191; }));
}

constexpr std::array kParsers{drm_uevent,     nvidia,  kfd_node, kfd_bank,
                              cpuinfo,        meminfo, cmdline,  os_release,
                              kernel_version, cgroup,  cpu_max,  number_list};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  kParsers[static_cast<std::size_t>(data[0]) % kParsers.size()](text);
  return 0;
}
