#include "doctor/fix_plan.h"

#include <gtest/gtest.h>

#include "doctor/checks.h"
#include "doctor/gpu_memory.h"
#include "hardware/detect.h"
#include "hardware/test_support.h"

namespace yoke::doctor {
namespace {

using hardware::FakeRoot;

constexpr std::string_view kHeader =
    "# Written by `yoke doctor --fix`; `yoke doctor --undo` takes it back.\n";

Result<FixPlan> plan_for(const FakeRoot& root, std::optional<std::uint64_t> gpu_memory = {}) {
  const hardware::Machine machine = hardware::detect({.files = root.files()});
  const SystemState state = read_state(root.files(), machine);
  return plan_fixes(check(state, machine, {}), state, machine, {.gpu_memory = gpu_memory});
}

std::string content(const FixPlan& plan, std::string_view path) {
  for (const FileChange& change : plan.changes) {
    if (change.path == path) {
      EXPECT_TRUE(change.after.starts_with(kHeader));
      return change.after.substr(kHeader.size());
    }
  }
  return "";
}

std::vector<std::string> commands(const FixPlan& plan) {
  std::vector<std::string> texts;
  for (const Command& command : plan.commands) texts.push_back(to_string(command));
  return texts;
}

// A Strix Halo with 128 GB as it comes out of the box, under another distribution.
FakeRoot fresh_box(std::string_view os_release, std::string_view kernel = "7.0.0") {
  FakeRoot root = FakeRoot::machine("strix-halo-512m");
  root.remove("/etc/modprobe.d");
  root.remove("/etc/default/grub");
  root.write("/etc/os-release", os_release);
  root.write("/proc/cmdline", "quiet\n");
  root.write("/proc/sys/kernel/osrelease", std::string(kernel) + "\n");
  root.write("/sys/module/ttm/parameters/pages_limit", "16400000\n");
  root.write("/sys/module/amdgpu/parameters/lockup_timeout", "\n");
  root.write("/proc/self/limits", "Max locked memory 8388608 8388608 bytes\n");
  return root;
}

TEST(PlanFixes, OnFedora) {
  const FakeRoot root = fresh_box("ID=fedora\n");
  const FixPlan plan = plan_for(root, 120 * kGib).value();
  EXPECT_EQ(content(plan, "/etc/modprobe.d/yoke.conf"),
            "options ttm pages_limit=31457280\n"
            "options amdgpu lockup_timeout=10000,60000,10000,10000\n");
  EXPECT_EQ(content(plan, "/etc/security/limits.d/yoke.conf"), "@render - memlock unlimited\n");
  EXPECT_EQ(plan.changes.size(), 2u);
  EXPECT_EQ(commands(plan), (std::vector<std::string>{"dracut --force --regenerate-all"}));
  EXPECT_TRUE(plan.manual.empty());
  EXPECT_TRUE(plan.reboot);
  EXPECT_TRUE(plan.login);
}

TEST(PlanFixes, OnDebianAndUbuntu) {
  for (const char* os : {"ID=debian\n", "ID=ubuntu\nID_LIKE=debian\n"}) {
    FakeRoot root = fresh_box(os);
    root.write("/etc/default/grub", "");
    const FixPlan plan = plan_for(root, 120 * kGib).value();
    EXPECT_EQ(commands(plan), (std::vector<std::string>{"update-initramfs -u -k all"}));
    EXPECT_EQ(content(plan, "/etc/default/grub.d/yoke.cfg"), "");
  }
}

TEST(PlanFixes, OnArch) {
  FakeRoot root = fresh_box("ID=arch\n");
  root.write("/etc/mkinitcpio.conf", "");
  const FixPlan plan = plan_for(root, 120 * kGib).value();
  EXPECT_EQ(commands(plan), (std::vector<std::string>{"mkinitcpio -P"}));
  EXPECT_TRUE(plan.manual.empty());
}

TEST(PlanFixes, OverridesTheKernelsCommandLineThroughGrub) {
  const FixPlan plan = plan_for(FakeRoot::machine("strix-halo-96g"), 20 * kGib).value();
  EXPECT_EQ(content(plan, "/etc/default/grub.d/yoke.cfg"),
            "GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT amdgpu.gttsize=-1\"\n");
  EXPECT_EQ(content(plan, "/etc/modprobe.d/yoke.conf"),
            "options ttm pages_limit=5242880\noptions amdgpu gttsize=-1\n"
            "options amdgpu cwsr_enable=0\n");
  EXPECT_EQ(commands(plan), (std::vector<std::string>{"update-initramfs -u -k all", "update-grub",
                                                      "sysctl -p /etc/sysctl.d/yoke.conf"}));
}

TEST(PlanFixes, WithoutGrubDirectoriesThePersonChangesTheCommandLine) {
  for (const auto& [os, how] :
       {std::pair{"ID=fedora\n", "grubby --update-kernel=ALL --remove-args"},
        std::pair{"ID=arch\n", "/boot/loader/entries"}}) {
    FakeRoot root = fresh_box(os);
    root.write("/proc/cmdline", "ttm.pages_limit=25165824\n");
    const FixPlan plan = plan_for(root, 120 * kGib).value();
    ASSERT_EQ(plan.manual.size(), 1u) << os;
    EXPECT_NE(plan.manual[0].find(how), std::string::npos) << plan.manual[0];
    EXPECT_NE(plan.manual[0].find("ttm.pages_limit=25165824"), std::string::npos);
  }
}

TEST(PlanFixes, ModulesInTheKernelNeedTheBootLoader) {
  FakeRoot root = fresh_box("ID=debian\n", "7.1.0");
  root.write("/etc/default/grub", "");
  root.write("/lib/modules/7.1.0/modules.builtin", "kernel/drivers/gpu/drm/ttm/ttm.ko\n");
  const FixPlan plan = plan_for(root, 120 * kGib).value();
  EXPECT_EQ(content(plan, "/etc/default/grub.d/yoke.cfg"),
            "GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT "
            "ttm.pages_limit=31457280\"\n");
  EXPECT_EQ(content(plan, "/etc/modprobe.d/yoke.conf").find("ttm"), std::string::npos);
}

TEST(PlanFixes, AFileThatComesLaterHasToGo) {
  FakeRoot root = fresh_box("ID=fedora\n");
  root.write("/etc/modprobe.d/amd.conf", "options ttm pages_limit=1\n");
  EXPECT_TRUE(plan_for(root, 120 * kGib)->manual.empty());
  root.write("/etc/modprobe.d/zz.conf", "options ttm pages_limit=2\n");
  const FixPlan plan = plan_for(root, 120 * kGib).value();
  ASSERT_EQ(plan.manual.size(), 1u);
  EXPECT_TRUE(plan.manual[0].starts_with("Remove pages_limit=2 from /etc/modprobe.d/zz.conf"));
}

TEST(PlanFixes, TheDkmsDriverHasItsOwnName) {
  FakeRoot root = fresh_box("ID=ubuntu\n");
  root.write("/sys/module/amdttm/parameters/pages_limit", "16400000\n");
  const FixPlan plan = plan_for(root, 100 * kGib).value();
  EXPECT_TRUE(content(plan, "/etc/modprobe.d/yoke.conf")
                  .starts_with("options amdttm pages_limit=26214400\n"));
}

TEST(PlanFixes, UnknownSystemsAreToldAboutTheInitramfs) {
  const FixPlan unknown = plan_for(fresh_box("ID=void\n"), 100 * kGib).value();
  EXPECT_TRUE(unknown.commands.empty());
  ASSERT_EQ(unknown.manual.size(), 1u);
  EXPECT_NE(unknown.manual[0].find("initramfs"), std::string::npos);
  FakeRoot image = fresh_box("ID=fedora\n");
  image.write("/run/ostree-booted", "");
  const FixPlan ostree = plan_for(image, 100 * kGib).value();
  EXPECT_TRUE(ostree.commands.empty());
  EXPECT_NE(ostree.manual.at(0).find("rpm-ostree kargs --append=\"ttm.pages_limit=26214400\""),
            std::string::npos);
}

TEST(PlanFixes, AddsToWhatAnEarlierRunWrote) {
  FakeRoot root = fresh_box("ID=fedora\n");
  const std::string earlier = std::string(kHeader) + "options ttm pages_limit=1000000\n";
  root.write("/etc/modprobe.d/yoke.conf", earlier);
  const FixPlan plan = plan_for(root).value();
  EXPECT_EQ(content(plan, "/etc/modprobe.d/yoke.conf"),
            "options ttm pages_limit=1000000\n"
            "options amdgpu lockup_timeout=10000,60000,10000,10000\n");
  EXPECT_EQ(plan.changes[0].before, earlier);
}

TEST(PlanFixes, HasNothingToDoAfterItsOwnFiles) {
  FakeRoot root = fresh_box("ID=fedora\n");
  const FixPlan first = plan_for(root, 120 * kGib).value();
  for (const FileChange& change : first.changes) root.write(change.path, change.after);
  EXPECT_TRUE(plan_for(root, 120 * kGib)->changes.empty());
  EXPECT_TRUE(plan_for(root)->changes.empty());
}

TEST(PlanFixes, WritesWhatSysAndUdevNeed) {
  FakeRoot root = fresh_box("ID=fedora\n");
  root.write("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
  root.write("/sys/class/drm/card1/device/power_dpm_force_performance_level", "low\n");
  const FixPlan plan = plan_for(root).value();
  EXPECT_EQ(content(plan, "/etc/tmpfiles.d/yoke.conf"),
            "w /sys/kernel/mm/transparent_hugepage/enabled - - - - madvise\n");
  EXPECT_NE(content(plan, "/etc/udev/rules.d/70-yoke.rules")
                .find("ATTR{device/power_dpm_force_performance_level}=\"auto\"\n"),
            std::string::npos);
  EXPECT_EQ(commands(plan),
            (std::vector<std::string>{"dracut --force --regenerate-all", "udevadm control --reload",
                                      "udevadm trigger --subsystem-match=drm",
                                      "systemd-tmpfiles --create /etc/tmpfiles.d/yoke.conf"}));
}

TEST(PlanFixes, RefusesWhereFilesCantHelp) {
  const auto container = plan_for(FakeRoot::machine("container-no-kfd"), 100 * kGib);
  ASSERT_FALSE(container);
  EXPECT_EQ(container.error().code, kFixNotPossible);
  const auto nixos = plan_for(fresh_box("ID=nixos\n"));
  ASSERT_FALSE(nixos);
  EXPECT_EQ(nixos.error().code, kFixNotPossible);
}

TEST(PlanFixes, RefusesTooMuchForTheGpu) {
  const auto refused = plan_for(fresh_box("ID=fedora\n"), 124 * kGib);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, kGpuMemoryRefused);
  EXPECT_FALSE(plan_for(FakeRoot::machine("nvidia"), 16 * kGib));
}

TEST(CommandsAfter, AnUndoneChange) {
  const Distribution distribution{.family = Distribution::Family::kDebian,
                                  .initramfs = Distribution::Initramfs::kUpdateInitramfs};
  std::vector<std::string> texts;
  for (const Command& command : commands_after(
           {"/etc/modprobe.d/yoke.conf", "/etc/default/grub.d/yoke.cfg", "/etc/sysctl.d/yoke.conf",
            "/etc/udev/rules.d/70-yoke.rules", "/etc/tmpfiles.d/yoke.conf"},
           distribution, true)) {
    texts.push_back(to_string(command));
  }
  EXPECT_EQ(texts, (std::vector<std::string>{"update-initramfs -u -k all", "update-grub",
                                             "udevadm control --reload"}));
}

}  // namespace
}  // namespace yoke::doctor
