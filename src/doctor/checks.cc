#include "doctor/checks.h"

#include <algorithm>

#include <fmt/format.h>

#include "doctor/check_subjects.h"
#include "doctor/own_files.h"

namespace yoke::doctor {
namespace {

using hardware::Device;
using hardware::Machine;

bool holds(const SystemState& state, OwnFile file, const Setting& setting) {
  const auto content = state.own_files.find(std::string(path_of(file)));
  return content != state.own_files.end() && OwnFileText(file, content->second).has(setting);
}

// Yoke's file that already has the setting and that nothing known comes before; empty if none has.
std::string file_with(const CheckInput& input, const Setting& setting) {
  const OwnFile file = file_for(setting);
  if (!holds(input.state, file, setting)) return "";
  if (file == OwnFile::kModprobe && input.state.distribution.grub_directory) {
    const auto argument = kernel_argument(input.host(), setting.key);
    const bool overridden = argument && *argument != setting.value;
    if (overridden && !holds(input.state, OwnFile::kGrub, setting)) return "";
  }
  return std::string(path_of(file));
}

// What --fix wrote earlier and is not in effect yet has to wait, not to be written again.
void mark_pending(const CheckInput& input, Finding& finding) {
  std::vector<std::string> files;
  for (const Setting& setting : finding.settings) {
    std::string file = file_with(input, setting);
    if (file.empty()) return;
    if (std::find(files.begin(), files.end(), file) == files.end()) files.push_back(file);
  }
  if (files.empty()) return;
  const std::string places = fmt::format("{}", fmt::join(files, ", "));
  if (finding.settings.front().kind == Setting::Kind::kMemoryLock) {
    finding.fix = fmt::format("Log out and in again: {} sets it already", places);
  } else if (finding.reboot) {
    finding.fix = fmt::format(
        "Reboot: {} sets it already. If you did, something else overrides it: the kernel's command "
        "line, or a later file in the same directory",
        places);
  } else {
    finding.fix = fmt::format("{} sets it already, but something else changed it since", places);
  }
  finding.settings.clear();
}

}  // namespace

std::string_view name_of(Severity severity) {
  switch (severity) {
    case Severity::kOk:
      return "ok";
    case Severity::kInfo:
      return "info";
    case Severity::kWarning:
      return "warning";
    case Severity::kBlocking:
      return "blocking";
  }
  return "ok";
}

std::vector<Finding> check(const SystemState& state, const Machine& machine,
                           const CheckOptions& options) {
  const CheckInput input{state, machine, options};
  std::vector<Finding> findings;
  check_access(input, findings);
  check_vulkan(input, findings);
  check_unified_memory(input, findings);
  check_amdgpu(input, findings);
  check_nvidia(input, findings);
  check_host(input, findings);
  for (Finding& finding : findings) {
    finding.reboot = finding.reboot && finding.severity != Severity::kOk;
    mark_pending(input, finding);
  }
  return findings;
}

bool blocks(const std::vector<Finding>& findings) {
  return std::any_of(findings.begin(), findings.end(), [](const Finding& finding) {
    return finding.severity == Severity::kBlocking;
  });
}

bool is_amd_graphics(const Device& device) {
  return device.vendor == hardware::Vendor::kAmd && !device.software &&
         device.architecture != hardware::Architecture::kCdna;
}

bool has_amd_graphics(const Machine& machine) {
  return std::any_of(machine.devices.begin(), machine.devices.end(), is_amd_graphics);
}

bool has_gfx115x(const Machine& machine) {
  return std::any_of(machine.devices.begin(), machine.devices.end(), [](const Device& device) {
    return device.gfx && device.gfx->value.starts_with("gfx115");
  });
}

bool has_other_backend(const Device& device, hardware::Backend except) {
  return std::any_of(device.backends.begin(), device.backends.end(), [&](const auto& verdict) {
    return verdict.usable && verdict.backend != except &&
           verdict.backend != hardware::Backend::kCpu;
  });
}

std::string where_set(const CheckInput& input, std::string_view module, std::string_view name) {
  if (kernel_argument(input.host(), fmt::format("{}.{}", module, name))) {
    return "on the kernel's command line";
  }
  const ModuleOption* option = module_option(input.state, module, name);
  return option == nullptr ? "" : "in " + option->file;
}

}  // namespace yoke::doctor
