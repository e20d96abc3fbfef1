#include "hardware/device_nodes.h"

#include <algorithm>
#include <fcntl.h>
#include <optional>
#include <set>
#include <unistd.h>

#include <fmt/format.h>

#include "hardware/text_fields.h"

namespace yoke::hardware {
namespace {

constexpr std::string_view kKfd = "/dev/kfd";
constexpr std::string_view kNvidia = "/dev/nvidiactl";

// Who this process is.
struct Identity {
  std::uint64_t uid = 0;
  std::set<std::uint64_t> groups;
};

Identity read_identity(const HostFiles& files) {
  Identity identity;
  const auto status = files.read("/proc/self/status");
  if (!status) return identity;
  const auto numbers = [&](std::string_view key) {
    std::vector<std::uint64_t> found;
    std::string_view rest = field(*status, key, ':').value_or("");
    for (std::string_view word = take_word(rest); !word.empty(); word = take_word(rest)) {
      if (const auto number = parse_number(word)) found.push_back(*number);
    }
    return found;
  };
  // Real, effective, saved and file system's.
  if (const auto uids = numbers("Uid"); uids.size() > 1) identity.uid = uids[1];
  if (const auto gids = numbers("Gid"); gids.size() > 1) identity.groups.insert(gids[1]);
  for (const std::uint64_t gid : numbers("Groups")) identity.groups.insert(gid);
  return identity;
}

bool allowed(const HostFiles::Info& info, const Identity& identity) {
  if (identity.uid == 0) return true;
  const auto both = [&](unsigned shift) { return ((info.mode >> shift) & 6) == 6; };
  if (info.uid == identity.uid) return both(6);
  return both(identity.groups.contains(info.gid) ? 3 : 0);
}

std::string group_name(const HostFiles& files, gid_t gid) {
  const auto content = files.read("/etc/group");
  if (!content) return "";
  std::string_view rest = *content;
  while (!rest.empty()) {
    // name:password:gid:members
    const std::string_view line = take_line(rest);
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view id = line.substr(second + 1, line.find(':', second + 1) - second - 1);
    if (parse_number(id) == std::uint64_t{gid}) return printable(line.substr(0, first));
  }
  return "";
}

DeviceNode read_node(const HostFiles& files, const Identity& identity, std::string_view path) {
  DeviceNode node{.path = std::string(path), .group = {}};
  const auto info = files.info(path);
  if (!info || info->directory) return node;
  node.present = true;
  node.gid = info->gid;
  node.group = group_name(files, info->gid);
  // An access control list, as logind sets it for who sits at the machine, is not in the mode.
  node.accessible = files.is_this_machine()
                        ? ::faccessat(AT_FDCWD, node.path.c_str(), R_OK | W_OK, AT_EACCESS) == 0
                        : allowed(*info, identity);
  return node;
}

bool needs_kfd(const Device& device) {
  return device.vendor == Vendor::kAmd && (!device.driver || device.driver->value == "amdgpu");
}

bool needs_nvidia(const Device& device) {
  return device.vendor == Vendor::kNvidia && device.driver && device.driver->value == "nvidia";
}

// NVIDIA's own driver computes through nodes of its own.
bool needs_render_node(const Device& device) {
  return !device.software && device.render_minor && device.vendor != Vendor::kNvidia;
}

bool is_docker_like(const Container& container) {
  return container.kind == "docker" || container.kind == "podman";
}

std::string option_for(const DeviceNode& node) {
  if (node.path == kNvidia) return "--gpus all";
  return node.path == kKfd ? "--device /dev/kfd" : "--device /dev/dri";
}

std::string missing(const DeviceNode& node, const Container& container) {
  if (is_docker_like(container)) {
    return fmt::format("{} is not in this container: start it with `{}`.", node.path,
                       option_for(node));
  }
  if (!container.kind.empty()) {
    return fmt::format("{} is not in this {} container: pass it through to it.", node.path,
                       container.kind);
  }
  if (node.path == kKfd) {
    return "/dev/kfd is missing: the amdgpu driver is not loaded, or the kernel was built without "
           "CONFIG_HSA_AMD.";
  }
  return fmt::format("{} is missing: the GPU's driver is not loaded.", node.path);
}

}  // namespace

DeviceNodes read_device_nodes(const HostFiles& files, const std::vector<Device>& devices) {
  const Identity identity = read_identity(files);
  DeviceNodes nodes{.kfd = read_node(files, identity, kKfd),
                    .render = {},
                    .nvidia = read_node(files, identity, kNvidia)};
  for (const Device& device : devices) {
    if (!needs_render_node(device)) continue;
    const int minor = *device.render_minor;
    nodes.render[minor] = read_node(files, identity, fmt::format("/dev/dri/renderD{}", minor));
  }
  return nodes;
}

std::string obstacle(const DeviceNode& node, const Container& container) {
  if (!node.present) return missing(node, container);
  if (node.accessible) return "";
  const std::string group = node.group.empty() ? fmt::format("{}", node.gid) : node.group;
  if (is_docker_like(container) && node.gid != 0) {
    return fmt::format("{} belongs to group {}: start the container with `--group-add {}`.",
                       node.path, group, node.gid);
  }
  if (node.gid == 0) {
    return fmt::format("{} is open to root only: it should belong to the group render.", node.path);
  }
  return fmt::format(
      "{} is open to group {} only: run `sudo usermod -aG {} $USER`, then log in "
      "again.",
      node.path, group, group);
}

std::vector<std::string> obstacles(const DeviceNodes& nodes, const std::vector<Device>& devices,
                                   const Container& container) {
  std::vector<std::string> found;
  const auto add = [&](const DeviceNode& node) {
    std::string text = obstacle(node, container);
    const bool known = std::find(found.begin(), found.end(), text) != found.end();
    if (!text.empty() && !known) found.push_back(std::move(text));
  };
  for (const Device& device : devices) {
    if (needs_kfd(device)) add(nodes.kfd);
    if (needs_nvidia(device)) add(nodes.nvidia);
    if (!needs_render_node(device)) continue;
    const auto node = nodes.render.find(*device.render_minor);
    if (node != nodes.render.end()) add(node->second);
  }
  return found;
}

}  // namespace yoke::hardware
