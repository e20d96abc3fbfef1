#include "doctor/fix_plan.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "doctor/gpu_memory.h"
#include "doctor/own_files.h"

namespace yoke::doctor {
namespace {

using hardware::Machine;

class Planner {
 public:
  Planner(const SystemState& state, const Machine& machine) : state_(state), machine_(machine) {}

  void add(const Setting& setting);
  Result<void> add_gpu_memory(std::uint64_t bytes);
  FixPlan finish(bool reboot);

 private:
  void add_module_parameter(const Setting& setting);
  void warn_of_later_file(const Setting& setting);
  void write(OwnFile file, const Setting& setting);
  void by_hand(std::string step);

  const SystemState& state_;
  const Machine& machine_;
  std::map<OwnFile, OwnFileText> files_;
  FixPlan plan_;
};

void Planner::write(OwnFile file, const Setting& setting) {
  const auto content = state_.own_files.find(std::string(path_of(file)));
  const std::string_view now =
      content == state_.own_files.end() ? std::string_view() : content->second;
  files_.try_emplace(file, file, now).first->second.set(setting);
}

void Planner::by_hand(std::string step) {
  auto& steps = plan_.manual;
  if (std::find(steps.begin(), steps.end(), step) == steps.end()) steps.push_back(std::move(step));
}

// modprobe takes the last value, by the names of the files.
void Planner::warn_of_later_file(const Setting& setting) {
  const std::size_t dot = setting.key.find('.');
  const ModuleOption* last =
      module_option(state_, setting.key.substr(0, dot), setting.key.substr(dot + 1));
  const auto name = [](std::string_view path) { return path.substr(path.rfind('/') + 1); };
  if (last == nullptr || last->value == setting.value ||
      name(last->file) <= name(path_of(OwnFile::kModprobe))) {
    return;
  }
  by_hand(fmt::format("Remove {}={} from {}, which comes after Yoke's file", last->name,
                      last->value, last->file));
}

// modprobe.d does not reach a module that is part of the kernel, and the kernel's command line
// comes after it. There the boot loader has to say it.
void Planner::add_module_parameter(const Setting& setting) {
  const std::string module = setting.key.substr(0, setting.key.find('.'));
  const auto& built_in = state_.built_in;
  const bool fixed = std::find(built_in.begin(), built_in.end(), module) != built_in.end();
  const auto argument = kernel_argument(machine_.host, setting.key);
  const bool overridden = argument && *argument != setting.value;
  const Distribution& distribution = state_.distribution;
  const std::string wanted = fmt::format("{}={}", setting.key, setting.value);
  if (!fixed) {
    write(OwnFile::kModprobe, setting);
    warn_of_later_file(setting);
  }
  if (!fixed && distribution.image_based) {
    by_hand(fmt::format("The initramfs is part of the system's image: {}",
                        how_to_add(distribution, wanted)));
  }
  if (!fixed && !overridden) return;
  if (distribution.grub_directory) {
    write(OwnFile::kGrub, setting);
  } else if (overridden) {
    by_hand(fmt::format(
        "The kernel's command line has {}={}, which comes before any file. {}. Then {} counts",
        setting.key, *argument,
        how_to_remove(distribution, fmt::format("{}={}", setting.key, *argument)), wanted));
  } else {
    by_hand(fmt::format("{} is part of this kernel, so no file reaches it. {}", module,
                        how_to_add(distribution, wanted)));
  }
}

void Planner::add(const Setting& setting) {
  if (setting.kind == Setting::Kind::kModuleParameter) {
    add_module_parameter(setting);
  } else {
    write(file_for(setting), setting);
  }
}

Result<void> Planner::add_gpu_memory(std::uint64_t bytes) {
  YOKE_TRY(const std::uint64_t pages, pages_for(bytes, machine_));
  const std::string ttm = state_.amdgpu.packaged_ttm ? "amdttm" : "ttm";
  add({Setting::Kind::kModuleParameter, ttm + ".pages_limit", std::to_string(pages)});
  // GTT would otherwise stay at what the old parameter says.
  const bool gttsize = state_.amdgpu.gttsize.value_or(-1) != -1 ||
                       module_option(state_, "amdgpu", "gttsize") != nullptr;
  if (gttsize) add({Setting::Kind::kModuleParameter, "amdgpu.gttsize", "-1"});
  return {};
}

FixPlan Planner::finish(bool reboot) {
  std::vector<std::string> paths;
  for (const auto& [file, text] : files_) {
    const std::string path(path_of(file));
    const auto content = state_.own_files.find(path);
    const bool exists = content != state_.own_files.end();
    std::string after = text.render();
    if (exists && content->second == after) continue;
    plan_.changes.push_back(
        {path, exists ? std::optional(content->second) : std::nullopt, std::move(after)});
    paths.push_back(path);
    plan_.login = plan_.login || file == OwnFile::kLimits;
    plan_.reboot = plan_.reboot || file == OwnFile::kModprobe || file == OwnFile::kGrub;
  }
  plan_.reboot = plan_.reboot || (reboot && !plan_.manual.empty());
  plan_.commands = commands_after(paths, state_.distribution, false);
  const bool kernel =
      std::find(paths.begin(), paths.end(), path_of(OwnFile::kModprobe)) != paths.end();
  if (kernel && rebuild_initramfs(state_.distribution).empty() &&
      !state_.distribution.image_based) {
    by_hand(
        "Rebuild the initramfs as your distribution does it, or the modules in it start with "
        "their old parameters");
  }
  return std::move(plan_);
}

}  // namespace

Result<FixPlan> plan_fixes(const std::vector<Finding>& findings, const SystemState& state,
                           const Machine& machine, const FixOptions& options) {
  if (const std::string& kind = machine.host.container.kind; !kind.empty()) {
    return fail(
        kFixNotPossible,
        fmt::format("This is a container ({}), and what is to mend belongs to its host.", kind),
        "Run `sudo yoke doctor --fix` on the host.");
  }
  if (state.distribution.family == Distribution::Family::kNixos) {
    return fail(
        kFixNotPossible, "On NixOS the files in /etc come from the configuration.",
        "Put what `yoke doctor` names into boot.extraModprobeConfig and boot.kernelParams.");
  }
  Planner planner(state, machine);
  if (options.gpu_memory) YOKE_CHECK(planner.add_gpu_memory(*options.gpu_memory));
  bool reboot = options.gpu_memory.has_value();
  for (const Finding& finding : findings) {
    for (const Setting& setting : finding.settings) planner.add(setting);
    reboot = reboot || (finding.fixable() && finding.reboot);
  }
  return planner.finish(reboot);
}

std::vector<Command> commands_after(const std::vector<std::string>& paths,
                                    const Distribution& distribution, bool undone) {
  const auto changed = [&](OwnFile file) {
    return std::find(paths.begin(), paths.end(), path_of(file)) != paths.end();
  };
  std::vector<Command> commands;
  if (changed(OwnFile::kModprobe)) {
    if (Command rebuild = rebuild_initramfs(distribution); !rebuild.empty()) {
      commands.push_back(std::move(rebuild));
    }
  }
  if (changed(OwnFile::kGrub)) commands.push_back({"update-grub"});
  if (changed(OwnFile::kUdev)) {
    commands.push_back({"udevadm", "control", "--reload"});
    if (!undone) commands.push_back({"udevadm", "trigger", "--subsystem-match=drm"});
  }
  // Taken back, these two leave the running values alone until the next boot.
  if (changed(OwnFile::kSysctl) && !undone) {
    commands.push_back({"sysctl", "-p", std::string(path_of(OwnFile::kSysctl))});
  }
  if (changed(OwnFile::kTmpfiles) && !undone) {
    commands.push_back({"systemd-tmpfiles", "--create", std::string(path_of(OwnFile::kTmpfiles))});
  }
  return commands;
}

}  // namespace yoke::doctor
