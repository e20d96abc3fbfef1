#include "hardware/host.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "hardware/host_parts.h"
#include "hardware/host_text.h"
#include "hardware/text_fields.h"

namespace yoke::hardware {
namespace {

void read_os(const NotedFiles& files, Host& host) {
  auto text = files.read("/etc/os-release");
  if (!text) text = files.read("/usr/lib/os-release");
  if (!text) return;
  OsRelease release = parse_os_release(*text);
  host.os_name = std::move(release.pretty_name);
  host.os_id = std::move(release.id);
  host.os_like = std::move(release.id_like);
}

// What makers leave in their firmware in place of a name.
bool is_placeholder(std::string_view text) {
  constexpr std::array<std::string_view, 6> kPlaceholders{
      "To Be Filled By O.E.M.", "To be filled by O.E.M.", "System manufacturer",
      "System Product Name",    "Default string",         "Not Specified"};
  return std::ranges::count(kPlaceholders, text) > 0;
}

std::string dmi(const NotedFiles& files, std::string_view name) {
  const auto line = files.line(fmt::format("/sys/class/dmi/id/{}", name));
  return !line || is_placeholder(*line) ? std::string() : printable(*line);
}

std::string read_product(const NotedFiles& files) {
  const std::string vendor = dmi(files, "sys_vendor");
  std::string product = dmi(files, "product_name");
  if (!product.empty() && (vendor.empty() || product.starts_with(vendor))) return product;
  if (!product.empty()) return vendor + " " + product;
  // ARM boards have no DMI but a device tree, whose strings end with a zero byte.
  const auto model = files.line("/sys/firmware/devicetree/base/model");
  return model ? printable(std::string_view(*model).substr(0, model->find('\0'))) : vendor;
}

void read_kernel(const NotedFiles& files, Host& host) {
  if (const auto line = files.line("/proc/sys/kernel/osrelease")) {
    host.kernel_text = printable(*line);
    host.kernel = parse_kernel_version(*line);
    if (!host.kernel) {
      files.note(fmt::format("The kernel's version is not understood: '{}'.", host.kernel_text));
    }
  }
  if (const auto text = files.read("/proc/cmdline")) {
    host.kernel_arguments = parse_kernel_arguments(*text);
  }
}

HostMemory read_memory(const NotedFiles& files, const CgroupLimits& limits) {
  const auto text = files.read("/proc/meminfo");
  const auto parsed = text ? parse_meminfo(*text) : std::nullopt;
  if (!parsed) files.note("/proc/meminfo does not say how much memory there is.");
  HostMemory memory = parsed.value_or(HostMemory());
  if (limits.memory && (memory.total == 0 || *limits.memory < memory.total)) {
    memory.limit = limits.memory;
    memory.available =
        parsed ? std::min(memory.available, *limits.headroom) : limits.headroom.value_or(0);
  }
  return memory;
}

}  // namespace

Host read_host(const HostFiles& host_files) {
  constexpr std::size_t kMountinfoLimit = 2u << 20;
  Host host;
  const NotedFiles files(host_files, host.notes);
  read_os(files, host);
  host.product = read_product(files);
  read_kernel(files, host);
  host.cpu = read_cpu(files);

  const auto mountinfo = files.read("/proc/self/mountinfo", kMountinfoLimit);
  const auto mounts = parse_mounts(mountinfo.value_or(""));
  const auto cgroup = files.read("/proc/self/cgroup");
  const auto cgroups = parse_cgroups(cgroup.value_or(""));
  const CgroupLimits limits = read_cgroup_limits(files, mounts, cgroups);
  if (limits.cpus) host.cpu.usable_threads = std::min(host.cpu.usable_threads, *limits.cpus);
  host.memory = read_memory(files, limits);
  host.container = read_container(files, mounts, cgroups, host_files.is_this_machine());
  return host;
}

}  // namespace yoke::hardware
