// May the user open the GPU's device nodes, and lock a model's memory?
#include <algorithm>

#include <fmt/format.h>

#include "base/units.h"
#include "doctor/check_subjects.h"

namespace yoke::doctor {
namespace {

using hardware::Device;
using hardware::DeviceNode;

bool is_member(const Account& account, gid_t gid) {
  return std::find(account.groups.begin(), account.groups.end(), gid) != account.groups.end();
}

bool exists(const SystemState& state, std::string_view group) {
  return std::find(state.groups.begin(), state.groups.end(), group) != state.groups.end();
}

bool open_to_all(const SystemState& state, const DeviceNode& node) {
  constexpr mode_t kOthers = 06;
  const auto mode = state.node_modes.find(node.path);
  return mode != state.node_modes.end() && (mode->second & kOthers) == kOthers;
}

// By owner and permissions, where another account than the running one is meant.
bool may_open(const CheckInput& input, const DeviceNode& node) {
  if (!input.options.account) return node.accessible;
  return input.account().uid == 0 || open_to_all(input.state, node) ||
         is_member(input.account(), node.gid);
}

// The nodes keep their group through udev, which only knows the ones of /etc/group.
std::string join_group(const DeviceNode& node) {
  if (node.group.empty() || node.group == "root") {
    return fmt::format(
        "{} belongs to no group of GPU users: `sudo udevadm control --reload && sudo udevadm "
        "trigger`, or reboot",
        node.path);
  }
  return fmt::format(
      "sudo usermod -aG render,video \"$USER\", then log out and in again ({} is of "
      "the group {})",
      node.path, node.group);
}

Finding node_finding(const CheckInput& input, std::string id, const DeviceNode& node,
                     Severity loss) {
  Finding finding{.id = std::move(id), .title = fmt::format("Access to {}", node.path)};
  const bool container = !input.host().container.kind.empty();
  if (!node.present) {
    finding.severity = loss;
    finding.found = "it does not exist";
    finding.wanted = "it exists";
    finding.why = container ? "A container has only the devices that it was given"
                            : "The kernel's driver makes it when it starts";
    finding.fix = container
                      ? "Start the container with --device /dev/kfd --device /dev/dri"
                      : "See `sudo dmesg | grep -iE 'amdgpu|kfd|drm'` for why the driver did not";
    return finding;
  }
  finding.found =
      node.group.empty() ? "open to you" : fmt::format("open to you (group {})", node.group);
  if (may_open(input, node)) {
    // A desktop's login is let in by itself; a service or an SSH session is not.
    const Account& account = input.account();
    if (account.uid == 0 || open_to_all(input.state, node) || is_member(account, node.gid)) {
      return finding;
    }
    finding.severity = Severity::kInfo;
    finding.found = "open to you through your desktop's login only";
    finding.wanted = "membership in the group, for services and SSH";
    finding.why = "The login's permission ends with its session (systemd, uaccess)";
    finding.fix = join_group(node);
    return finding;
  }
  finding.severity = loss;
  finding.found = fmt::format("permission denied (group {})",
                              node.group.empty() ? std::to_string(node.gid) : node.group);
  finding.wanted = "membership in the groups render and video";
  finding.why =
      "Compute programs open this file (ROCm documentation, configuring permissions for GPU "
      "access)";
  finding.fix = container ? fmt::format("Start the container with --group-add {}", node.gid)
                          : join_group(node);
  return finding;
}

void check_nodes(const CheckInput& input, std::vector<Finding>& findings) {
  const hardware::DeviceNodes& nodes = input.state.installed.nodes;
  bool amd = false;
  Severity kfd_loss = Severity::kInfo;
  for (const Device& device : input.machine.devices) {
    const bool nvidia = device.vendor == hardware::Vendor::kNvidia;  // It has nodes of its own.
    if (device.software || nvidia) continue;
    const bool vulkan_is_all = !is_amd_graphics(device) || device.vendor != hardware::Vendor::kAmd;
    if (device.vendor == hardware::Vendor::kAmd) {
      amd = true;
      // Compute cards have nothing but ROCm; the others lose one of two backends.
      kfd_loss = std::max(kfd_loss, vulkan_is_all ? Severity::kBlocking : Severity::kWarning);
    }
    if (!device.render_minor) continue;
    const auto node = nodes.render.find(*device.render_minor);
    if (node == nodes.render.end()) continue;
    findings.push_back(node_finding(input, fmt::format("access-renderD{}", *device.render_minor),
                                    node->second, Severity::kBlocking));
  }
  if (amd) findings.push_back(node_finding(input, "access-kfd", nodes.kfd, kfd_loss));
}

// Who gets the limit: those who may use the GPU, where there is such a group.
std::string limit_domain(const CheckInput& input) {
  const bool gpu = std::any_of(input.machine.devices.begin(), input.machine.devices.end(),
                               [](const Device& device) { return !device.software; });
  if (gpu && exists(input.state, "render")) return "@render";
  return "*";
}

std::string limit_text(std::uint64_t limit) {
  return limit == kUnlimited ? "unlimited" : format_memory(limit);
}

Finding memory_lock(const CheckInput& input, std::uint64_t limit) {
  // More than the machine has is as good as any number.
  const std::uint64_t ram = input.host().memory.total;
  Finding finding{.id = "memory-lock",
                  .title = "Memory that may be locked (RLIMIT_MEMLOCK)",
                  .found = limit_text(limit)};
  if (limit >= input.options.lock_bytes || (ram > 0 && limit >= ram)) return finding;
  // Root behind sudo may lock anything, the one who called it may not.
  if (input.state.may_lock_any && !input.options.account) {
    finding.found += ", which does not bind you (CAP_IPC_LOCK)";
    return finding;
  }
  finding.severity = Severity::kWarning;
  finding.wanted = limit_text(input.options.lock_bytes);
  finding.why =
      "Models with mlock stay in memory; without the permission they can be swapped out between "
      "two "
      "requests (setrlimit(2), mlock(2))";
  const std::string domain = limit_domain(input);
  finding.fix = fmt::format(
      "\"{} - memlock unlimited\" in a file in /etc/security/limits.d, then log in again; for a "
      "systemd service LimitMEMLOCK=infinity",
      domain);
  if (input.host().container.kind.empty()) {
    finding.settings = {{Setting::Kind::kMemoryLock, domain, "unlimited"}};
  } else {
    finding.fix = "Start the container with --ulimit memlock=-1:-1";
  }
  return finding;
}

}  // namespace

void check_access(const CheckInput& input, std::vector<Finding>& findings) {
  check_nodes(input, findings);
  if (input.state.memory_lock) findings.push_back(memory_lock(input, *input.state.memory_lock));
}

}  // namespace yoke::doctor
