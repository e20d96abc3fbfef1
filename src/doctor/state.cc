#include "doctor/state.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "doctor/own_files.h"
#include "doctor/packages.h"
#include "doctor/text.h"
#include "hardware/text_fields.h"

namespace yoke::doctor {
namespace {

using hardware::HostFiles;

constexpr std::array<std::string_view, 3> kModules{"ttm", "amdttm", "amdgpu"};

bool is_of_interest(std::string_view module) {
  return std::find(kModules.begin(), kModules.end(), module) != kModules.end();
}

std::string line_or_empty(const HostFiles& files, std::string_view path) {
  const auto line = files.read_line(path);
  return line ? hardware::printable(*line) : std::string();
}

std::optional<std::int64_t> signed_number(const HostFiles& files, std::string_view path) {
  const auto line = files.read_line(path);
  return line ? number_of<std::int64_t>(*line) : std::nullopt;
}

std::vector<PowerLevel> read_power_levels(const HostFiles& files) {
  std::vector<PowerLevel> levels;
  const auto names = files.list("/sys/class/drm");
  if (!names) return levels;
  for (const std::string& name : *names) {
    if (!name.starts_with("card") || name.find('-') != std::string::npos) continue;
    std::string level = line_or_empty(
        files, fmt::format("/sys/class/drm/{}/device/power_dpm_force_performance_level", name));
    if (!level.empty()) levels.push_back({hardware::printable(name), std::move(level)});
  }
  return levels;
}

AmdgpuState read_amdgpu(const HostFiles& files) {
  AmdgpuState state;
  state.packaged_ttm = files.exists("/sys/module/amdttm");
  const std::string_view ttm = state.packaged_ttm ? "amdttm" : "ttm";
  const auto pages = files.read_number(fmt::format("/sys/module/{}/parameters/pages_limit", ttm));
  if (pages) state.pages_limit = *pages;
  const std::string parameters = "/sys/module/amdgpu/parameters/";
  state.gttsize = signed_number(files, parameters + "gttsize");
  state.cwsr_enable = signed_number(files, parameters + "cwsr_enable");
  if (const auto timeout = files.read_line(parameters + "lockup_timeout")) {
    state.lockup_timeout = hardware::printable(*timeout);
  }
  state.power_levels = read_power_levels(files);
  return state;
}

void add_module_options(std::string_view content, const std::string& file,
                        std::vector<ModuleOption>& options) {
  for (const std::string_view line : lines_of(content)) {
    const auto words = words_of(line);
    if (words.size() < 3 || words[0] != "options" || !is_of_interest(words[1])) continue;
    for (std::size_t i = 2; i < words.size(); ++i) {
      const std::size_t equals = words[i].find('=');
      if (equals == std::string_view::npos) continue;
      options.push_back({std::string(words[1]), hardware::printable(words[i].substr(0, equals)),
                         hardware::printable(words[i].substr(equals + 1)), file});
    }
  }
}

// modprobe goes through the files of all directories by their names; of two files with the same
// name it takes the one in the directory that stands first here.
std::vector<ModuleOption> read_module_options(const HostFiles& files) {
  std::map<std::string, std::string> paths;
  for (const std::string_view directory :
       {"/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d",
        "/lib/modprobe.d"}) {
    const auto names = files.list(directory);
    if (!names) continue;
    for (const std::string& name : *names) {
      if (name.ends_with(".conf")) paths.try_emplace(name, fmt::format("{}/{}", directory, name));
    }
  }
  std::vector<ModuleOption> options;
  for (const auto& [name, path] : paths) {
    if (const auto content = files.read(path)) {
      add_module_options(*content, hardware::printable(path), options);
    }
  }
  return options;
}

std::vector<std::string> read_built_in(const HostFiles& files, std::string_view kernel) {
  std::vector<std::string> built_in;
  auto list = files.read(fmt::format("/lib/modules/{}/modules.builtin", kernel), 1u << 20);
  if (!list)
    list = files.read(fmt::format("/usr/lib/modules/{}/modules.builtin", kernel), 1u << 20);
  if (!list) return built_in;
  for (const std::string_view module : kModules) {
    if (list->find(fmt::format("/{}.ko\n", module)) != std::string::npos) {
      built_in.emplace_back(module);
    }
  }
  return built_in;
}

template <class Id>
std::vector<Id> ids_of(std::string_view text) {
  std::vector<Id> ids;
  for (const std::string_view word : words_of(text)) {
    if (const auto id = number_of<Id>(word)) ids.push_back(*id);
  }
  return ids;
}

void read_process(const HostFiles& files, SystemState& state) {
  const auto status = files.read("/proc/self/status");
  if (status) {
    const auto value = [&](std::string_view key) {
      return hardware::field(*status, key, ':').value_or("");
    };
    if (const auto uids = ids_of<uid_t>(value("Uid")); !uids.empty()) state.account.uid = uids[0];
    state.account.groups = ids_of<gid_t>(value("Groups"));
    if (const auto gids = ids_of<gid_t>(value("Gid")); !gids.empty()) {
      state.account.groups.push_back(gids[0]);
    }
    constexpr unsigned kIpcLock = 14;  // CAP_IPC_LOCK
    const auto capabilities = hardware::parse_digits(value("CapEff"), 16);
    state.may_lock_any = capabilities && (*capabilities >> kIpcLock & 1u) != 0;
  }
  const auto limits = files.read("/proc/self/limits");
  if (!limits) return;
  constexpr std::string_view kName = "Max locked memory";
  for (const std::string_view line : lines_of(*limits)) {
    if (!line.starts_with(kName)) continue;
    const auto words = words_of(line.substr(kName.size()));
    if (words.empty()) continue;
    state.memory_lock = words[0] == "unlimited" ? kUnlimited : number_of<std::uint64_t>(words[0]);
  }
}

void read_groups(const HostFiles& files, SystemState& state) {
  const auto groups = files.read("/etc/group", 1u << 20);
  if (!groups) return;
  for (const std::string_view line : lines_of(*groups)) {
    state.groups.emplace_back(line.substr(0, line.find(':')));
  }
}

void read_swap(const HostFiles& files, SystemState& state) {
  if (const auto swaps = files.read("/proc/swaps")) {
    for (const std::string_view line : lines_of(*swaps)) {
      const auto words = words_of(line);
      if (words.size() < 3 || !words[0].starts_with('/')) continue;
      const auto kib = number_of<std::uint64_t>(words[2]);
      if (kib && *kib < kUnlimited / 1024) {
        state.swaps.push_back({hardware::printable(words[0]), *kib * 1024});
      }
    }
  }
  if (const auto value = files.read_number("/proc/sys/vm/swappiness")) state.swappiness = *value;
}

void read_processor(const HostFiles& files, SystemState& state) {
  // "always [madvise] never"
  const std::string modes = line_or_empty(files, "/sys/kernel/mm/transparent_hugepage/enabled");
  const std::size_t start = modes.find('[');
  const std::size_t end = modes.find(']', std::min(start, modes.size()));
  if (end != std::string::npos) state.huge_pages = modes.substr(start + 1, end - start - 1);
  const std::string frequency = "/sys/devices/system/cpu/cpu0/cpufreq/";
  state.frequency_driver = line_or_empty(files, frequency + "scaling_driver");
  state.energy_preference = line_or_empty(files, frequency + "energy_performance_preference");
}

void read_packages(const HostFiles& files, SystemState& state) {
  const auto firmware = find_package(files, {"firmware-amd-graphics", "linux-firmware-amdgpu",
                                             "amd-gpu-firmware", "linux-firmware"});
  if (firmware) {
    state.firmware_package = firmware->name;
    state.firmware_version = firmware->version;
  }
  state.packaged_firmware = find_package(files, {"amdgpu-dkms-firmware"}).has_value();
}

void read_node_modes(const HostFiles& files, SystemState& state) {
  const auto add = [&](const hardware::DeviceNode& node) {
    if (!node.present) return;
    if (const auto info = files.info(node.path)) state.node_modes[node.path] = info->mode;
  };
  add(state.installed.nodes.kfd);
  for (const auto& [minor, node] : state.installed.nodes.render) add(node);
}

}  // namespace

SystemState read_state(const HostFiles& files, const hardware::Machine& machine) {
  SystemState state;
  state.distribution = read_distribution(files);
  state.amdgpu = read_amdgpu(files);
  state.installed = hardware::read_installed_files(files, machine.devices);
  read_node_modes(files, state);
  state.module_options = read_module_options(files);
  state.built_in = read_built_in(files, line_or_empty(files, "/proc/sys/kernel/osrelease"));
  const bool amd = std::any_of(machine.devices.begin(), machine.devices.end(), [](const auto& gpu) {
    return gpu.vendor == hardware::Vendor::kAmd;
  });
  if (amd) read_packages(files, state);
  state.nvidia_version = line_or_empty(files, "/sys/module/nvidia/version");
  if (!state.nvidia_version.empty()) state.cuda = read_cuda_libraries(files);
  read_process(files, state);
  read_groups(files, state);
  read_swap(files, state);
  read_processor(files, state);
  for (const OwnFile file : kOwnFiles) {
    if (auto content = files.read(path_of(file))) {
      state.own_files[std::string(path_of(file))] = std::move(*content);
    }
  }
  return state;
}

Account read_account(const HostFiles& files, uid_t uid) {
  Account account{.uid = uid};
  std::string name;
  const auto passwd = files.read("/etc/passwd", 1u << 20);
  if (!passwd) return account;
  for (const std::string_view line : lines_of(*passwd)) {
    const auto fields = split(line, ':');
    if (fields.size() < 4 || number_of<uid_t>(fields[2]) != uid) continue;
    name = fields[0];
    if (const auto gid = number_of<gid_t>(fields[3])) account.groups.push_back(*gid);
    break;
  }
  const auto groups = files.read("/etc/group", 1u << 20);
  if (!groups || name.empty()) return account;
  for (const std::string_view line : lines_of(*groups)) {
    const auto fields = split(line, ':');
    if (fields.size() < 4) continue;
    const auto members = split(fields[3], ',');
    const auto gid = number_of<gid_t>(fields[2]);
    if (gid && std::find(members.begin(), members.end(), name) != members.end()) {
      account.groups.push_back(*gid);
    }
  }
  return account;
}

std::optional<std::string> kernel_argument(const hardware::Host& host, std::string_view name) {
  std::optional<std::string> value;
  for (const std::string& argument : host.kernel_arguments) {
    const std::size_t equals = argument.find('=');
    if (equals == std::string::npos || std::string_view(argument).substr(0, equals) != name) {
      continue;
    }
    value = argument.substr(equals + 1);
  }
  return value;
}

const ModuleOption* module_option(const SystemState& state, std::string_view module,
                                  std::string_view name, std::string_view except) {
  const ModuleOption* found = nullptr;
  for (const ModuleOption& option : state.module_options) {
    if (option.module == module && option.name == name && option.file != except) found = &option;
  }
  return found;
}

}  // namespace yoke::doctor
