#include "doctor/checks.h"

#include <algorithm>
#include <iterator>

#include <gtest/gtest.h>

#include "doctor/gpu_memory.h"
#include "hardware/detect.h"
#include "hardware/test_support.h"

namespace yoke::doctor {
namespace {

using hardware::Backend;
using hardware::FakeRoot;

std::vector<Finding> check_root(const FakeRoot& root, const CheckOptions& options = {}) {
  const hardware::Machine machine = hardware::detect({.files = root.files()});
  return check(read_state(root.files(), machine), machine, options);
}

std::vector<Finding> check_machine(std::string_view name) {
  return check_root(FakeRoot::machine(name));
}

const Finding* find(const std::vector<Finding>& findings, std::string_view id) {
  const auto found = std::find_if(findings.begin(), findings.end(),
                                  [&](auto& finding) { return finding.id == id; });
  return found == findings.end() ? nullptr : &*found;
}

const Finding& get(const std::vector<Finding>& findings, std::string_view id) {
  const Finding* finding = find(findings, id);
  if (finding == nullptr) throw std::runtime_error("no finding " + std::string(id));
  return *finding;
}

std::vector<std::string> ids(const std::vector<Finding>& findings, Severity severity) {
  std::vector<std::string> ids;
  for (const Finding& finding : findings) {
    if (finding.severity == severity) ids.push_back(finding.id);
  }
  return ids;
}

// A box with a Strix Halo for tests that change one thing.
struct Box {
  SystemState state;
  hardware::Machine machine;
  CheckOptions options;

  Box() {
    machine.host.memory.total = 125 * kGib;
    machine.host.kernel = hardware::KernelVersion{6, 18, 9};
    machine.host.kernel_text = "6.18.9";
    hardware::Device apu;
    apu.id = "0000:c5:00.0";
    apu.vendor = hardware::Vendor::kAmd;
    apu.name.value = "Radeon 8060S";
    apu.architecture = hardware::Architecture::kRdna;
    apu.integrated = hardware::Fact<bool>{true, hardware::Source::kDrm};
    apu.gfx = hardware::Fact<std::string>{"gfx1151", hardware::Source::kKfd};
    apu.memory.carve_out = 512u << 20;
    apu.memory.gtt = 120 * kGib;
    apu.backends = {{Backend::kVulkan, true, ""}, {Backend::kRocm, true, ""}};
    apu.render_minor = 128;
    machine.devices.push_back(apu);
    state.distribution.family = Distribution::Family::kFedora;
    state.amdgpu.pages_limit = 120 * kPagesPerGib;
    state.amdgpu.gttsize = -1;
    state.amdgpu.lockup_timeout = "";
    state.amdgpu.cwsr_enable = 1;
    state.firmware_package = "amd-gpu-firmware";
    state.firmware_version = "20260110-1.fc43";
    state.installed.vulkan_icds = {"radeon_icd.x86_64.json"};
    state.account = {1000, {1000, 105}};
    state.groups = {"root", "video", "render"};
    state.memory_lock = kUnlimited;
    add_node(state.installed.nodes.kfd, "/dev/kfd");
    add_node(state.installed.nodes.render[128], "/dev/dri/renderD128");
  }

  void add_node(hardware::DeviceNode& node, const std::string& path) {
    node = {.path = path, .present = true, .accessible = true, .gid = 105, .group = "render"};
    state.node_modes[path] = 0660;
  }
  hardware::Device& gpu() { return machine.devices[0]; }
  std::vector<Finding> check() const { return doctor::check(state, machine, options); }
  Finding check(std::string_view id) const { return get(check(), id); }
};

bool mentions(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// Whole machines

TEST(Check, AWellSetUpStrixHaloHasNothingToMend) {
  const auto findings = check_machine("strix-halo-512m");
  EXPECT_TRUE(ids(findings, Severity::kBlocking).empty());
  EXPECT_TRUE(ids(findings, Severity::kWarning).empty());
  EXPECT_EQ(get(findings, "ttm-pages-limit").found, "31457280 pages = 120 GiB of 125.1 GiB");
}

TEST(Check, AStrixHaloSetUpAsOldGuidesSay) {
  const auto findings = check_machine("strix-halo-96g");
  EXPECT_EQ(ids(findings, Severity::kBlocking), (std::vector<std::string>{"access-renderD128"}));
  EXPECT_EQ(ids(findings, Severity::kWarning),
            (std::vector<std::string>{"access-kfd", "memory-lock", "amdvlk", "amdgpu-gttsize",
                                      "bios-carve-out", "kernel-cwsr", "linux-firmware"}));
  EXPECT_TRUE(blocks(findings));
}

TEST(Check, OnlyWhatTheMachineHasIsChecked) {
  for (const Finding& finding : check_machine("nothing")) {
    EXPECT_TRUE(finding.id == "memory-lock" || finding.id == "swap" || finding.id == "huge-pages")
        << finding.id;
  }
  const auto nvidia = check_machine("nvidia");
  EXPECT_NE(find(nvidia, "nvidia-driver"), nullptr);
  EXPECT_EQ(find(nvidia, "amdgpu-dkms"), nullptr);
  EXPECT_EQ(find(nvidia, "ttm-pages-limit"), nullptr);
  const auto mi300 = check_machine("mi300");
  EXPECT_EQ(find(mi300, "amdvlk"), nullptr);
  EXPECT_EQ(find(mi300, "amdgpu-lockup-timeout"), nullptr);
  EXPECT_NE(find(mi300, "access-kfd"), nullptr);
  EXPECT_EQ(find(check_machine("two-radeons"), "bios-carve-out"), nullptr);
}

TEST(Check, EveryProblemSaysEverything) {
  for (const char* name : {"strix-halo-512m", "strix-halo-96g", "two-radeons", "mi300", "nvidia",
                           "laptop-igpu-dgpu", "container-no-kfd", "nothing", "hostile"}) {
    std::vector<std::string> seen;
    for (const Finding& finding : check_machine(name)) {
      EXPECT_FALSE(finding.title.empty() || finding.found.empty()) << name << " " << finding.id;
      EXPECT_EQ(std::count(seen.begin(), seen.end(), finding.id), 0) << name << " " << finding.id;
      seen.push_back(finding.id);
      if (finding.severity == Severity::kOk) {
        EXPECT_TRUE(finding.settings.empty()) << name << " " << finding.id;
        continue;
      }
      EXPECT_FALSE(finding.wanted.empty()) << name << " " << finding.id;
      EXPECT_FALSE(finding.why.empty()) << name << " " << finding.id;
      EXPECT_FALSE(finding.fix.empty()) << name << " " << finding.id;
    }
  }
}

TEST(Check, AContainerIsToldWhatToStartItWith) {
  const auto findings = check_machine("container-no-kfd");
  EXPECT_TRUE(mentions(get(findings, "access-kfd").fix, "--device /dev/kfd"));
  EXPECT_TRUE(mentions(get(findings, "memory-lock").fix, "--ulimit memlock"));
  EXPECT_TRUE(get(findings, "memory-lock").settings.empty());
}

// Unified memory

TEST(CheckMemory, TheDefaultOfHalfTheMemoryIsTooLittle) {
  Box box;
  box.state.amdgpu.pages_limit = 62 * kPagesPerGib;
  box.gpu().memory.gtt = 62 * kGib;
  Finding finding = box.check("ttm-pages-limit");
  EXPECT_EQ(finding.severity, Severity::kWarning);
  EXPECT_EQ(finding.fix, "sudo yoke doctor --fix --gpu-memory 117GiB");
  EXPECT_TRUE(finding.reboot);
  // A second GPU with memory of its own does the work.
  box.machine.devices.push_back(box.gpu());
  box.machine.devices[1].integrated->value = false;
  EXPECT_EQ(box.check("ttm-pages-limit").severity, Severity::kInfo);
}

TEST(CheckMemory, TheCommonFormulaIsRecognised) {
  Box box;
  box.state.amdgpu.pages_limit = 27'648'000;
  box.gpu().memory.gtt = 27'648'000 * kTtmPage;
  const Finding finding = box.check("ttm-pages-limit");
  EXPECT_EQ(finding.severity, Severity::kInfo);
  EXPECT_EQ(finding.found, "27648000 pages = 105.5 GiB of 125 GiB");
  EXPECT_TRUE(mentions(finding.wanted, "28311552 pages, if 108 GiB"));
  EXPECT_EQ(finding.fix, "sudo yoke doctor --fix --gpu-memory 108GiB");
}

TEST(CheckMemory, MoreThanTheMachineCanGiveIsAWarning) {
  Box box;
  box.state.amdgpu.pages_limit = 124 * kPagesPerGib;
  const Finding finding = box.check("ttm-pages-limit");
  EXPECT_EQ(finding.severity, Severity::kWarning);
  EXPECT_EQ(finding.wanted, "at most 121 GiB");
}

TEST(CheckMemory, ALimitRaisedAfterTheStartDoesNotCount) {
  Box box;
  box.gpu().memory.gtt = 62 * kGib;
  const Finding finding = box.check("ttm-pages-limit");
  EXPECT_EQ(finding.severity, Severity::kWarning);
  EXPECT_TRUE(mentions(finding.found, "but GTT has 62 GiB"));
}

TEST(CheckMemory, OddNumbersDoNotOverflow) {
  for (const std::uint64_t pages :
       {std::uint64_t{0}, std::uint64_t{1}, UINT64_MAX / 4096 - 1, UINT64_MAX / 2, UINT64_MAX}) {
    for (const std::uint64_t ram : {std::uint64_t{0}, kGib, UINT64_MAX}) {
      Box box;
      box.state.amdgpu.pages_limit = pages;
      box.machine.host.memory.total = ram;
      EXPECT_NO_THROW(box.check());
    }
  }
}

TEST(CheckMemory, GttsizeIsDeprecated) {
  Box box;
  box.state.amdgpu.gttsize = 107'520;
  box.state.module_options = {{"amdgpu", "gttsize", "107520", "/etc/modprobe.d/amdgpu.conf"}};
  Finding finding = box.check("amdgpu-gttsize");
  EXPECT_EQ(finding.severity, Severity::kWarning);
  EXPECT_EQ(finding.found,
            "107520 MiB = 105 GiB, set in /etc/modprobe.d/amdgpu.conf; TTM's limit is 120 GiB");
  box.machine.host.kernel_arguments = {"amdgpu.gttsize=107520"};
  finding = box.check("amdgpu-gttsize");
  EXPECT_TRUE(mentions(finding.found, "on the kernel's command line"));
  EXPECT_TRUE(mentions(finding.fix, "grubby --update-kernel=ALL --remove-args"));
  box.state.amdgpu.gttsize = -1;
  EXPECT_EQ(box.check("amdgpu-gttsize").severity, Severity::kOk);
}

TEST(CheckMemory, GttSizeWithAnUnderscoreIsATypo) {
  Box box;
  EXPECT_EQ(find(box.check(), "amdgpu-gtt-size-typo"), nullptr);
  box.machine.host.kernel_arguments = {"amdgpu.gtt_size=131072"};
  EXPECT_EQ(box.check("amdgpu-gtt-size-typo").severity, Severity::kWarning);
}

TEST(CheckMemory, ALargeCarveOutIsWasted) {
  Box box;
  EXPECT_EQ(box.check("bios-carve-out").severity, Severity::kOk);
  box.gpu().memory.carve_out = 64 * kGib;
  EXPECT_EQ(box.check("bios-carve-out").severity, Severity::kWarning);
}

TEST(CheckMemory, IommuIsAChoiceAndPtIsNone) {
  Box box;
  EXPECT_EQ(box.check("amd-iommu").severity, Severity::kInfo);
  box.machine.host.kernel_arguments = {"amd_iommu=off"};
  EXPECT_EQ(box.check("amd-iommu").severity, Severity::kOk);
  box.machine.host.kernel_arguments = {"amd_iommu=pt"};
  EXPECT_EQ(box.check("amd-iommu").severity, Severity::kWarning);
}

// Driver

TEST(CheckAmdgpu, TheWatchdogIsTooShortSinceLinux619) {
  Box box;
  EXPECT_EQ(box.check("amdgpu-lockup-timeout").severity, Severity::kOk);
  box.machine.host.kernel = hardware::KernelVersion{6, 19, 0};
  const Finding finding = box.check("amdgpu-lockup-timeout");
  EXPECT_EQ(finding.severity, Severity::kWarning);
  EXPECT_EQ(finding.settings,
            (std::vector<Setting>{{Setting::Kind::kModuleParameter, "amdgpu.lockup_timeout",
                                   "10000,60000,10000,10000"}}));
  EXPECT_TRUE(finding.reboot);
}

TEST(CheckAmdgpu, AWatchdogThatWasSetIsReadRightly) {
  const auto severity = [](const char* value) {
    Box box;
    box.machine.host.kernel = hardware::KernelVersion{7, 0, 0};
    box.state.amdgpu.lockup_timeout = value;
    return box.check("amdgpu-lockup-timeout").severity;
  };
  for (const char* enough :
       {"10000", "-1", "10000,60000,10000,10000", "2000,10000,2000,2000", "5,-1"}) {
    EXPECT_EQ(severity(enough), Severity::kOk) << enough;
  }
  for (const char* little :
       {"2000", "0", "10000,2000,10000,10000", "10000,0", "x", ",", "9999999999999999999999"}) {
    EXPECT_EQ(severity(little), Severity::kWarning) << little;
  }
}

TEST(CheckAmdgpu, CwsrNeedsAKernelWithTheFix) {
  Box box;
  EXPECT_EQ(box.check("kernel-cwsr").severity, Severity::kOk);
  box.machine.host.kernel = hardware::KernelVersion{6, 18, 3};
  EXPECT_EQ(box.check("kernel-cwsr").severity, Severity::kWarning);
  EXPECT_EQ(box.check("kernel-cwsr").settings.at(0).key, "amdgpu.cwsr_enable");
  box.machine.host.kernel.reset();
  EXPECT_EQ(box.check("kernel-cwsr").severity, Severity::kWarning);
  box.state.amdgpu.cwsr_enable = 0;
  EXPECT_EQ(box.check("kernel-cwsr").severity, Severity::kOk);
  box.state.amdgpu.cwsr_enable = 1;
  box.state.installed.kfd_knows_cwsr_size = true;  // A distribution's backport.
  EXPECT_EQ(box.check("kernel-cwsr").severity, Severity::kOk);
  box.gpu().gfx->value = "gfx1100";
  EXPECT_EQ(find(box.check(), "kernel-cwsr"), nullptr);
}

TEST(CheckAmdgpu, TheBadFirmwareIsNamed) {
  Box box;
  EXPECT_EQ(box.check("linux-firmware").severity, Severity::kOk);
  box.state.firmware_version = "20251125-1.fc43";
  EXPECT_EQ(box.check("linux-firmware").severity, Severity::kWarning);
  EXPECT_EQ(box.check("linux-firmware").fix, "sudo dnf upgrade amd-gpu-firmware");
  box.state.firmware_version.clear();
  EXPECT_EQ(box.check("linux-firmware").severity, Severity::kInfo);
}

TEST(CheckAmdgpu, TheDkmsDriverIsWrongForApus) {
  Box box;
  EXPECT_EQ(box.check("amdgpu-dkms").severity, Severity::kOk);
  box.state.amdgpu.packaged_ttm = true;
  EXPECT_EQ(box.check("amdgpu-dkms").severity, Severity::kWarning);
  EXPECT_TRUE(mentions(box.check("ttm-pages-limit").title, "amdttm.pages_limit"));
  box.state.amdgpu.packaged_ttm = false;
  box.state.packaged_firmware = true;
  EXPECT_EQ(box.check("amdgpu-dkms").severity, Severity::kWarning);
  box.gpu().gfx->value = "gfx942";
  EXPECT_EQ(box.check("amdgpu-dkms").severity, Severity::kOk);
}

TEST(CheckAmdgpu, FixedClocksAreNoticed) {
  Box box;
  EXPECT_EQ(find(box.check(), "amdgpu-power-level"), nullptr);
  box.state.amdgpu.power_levels = {{"card0", "auto"}, {"card1", "high"}};
  EXPECT_EQ(box.check("amdgpu-power-level").severity, Severity::kOk);
  box.state.amdgpu.power_levels[0].level = "manual";
  EXPECT_EQ(box.check("amdgpu-power-level").severity, Severity::kInfo);
  EXPECT_FALSE(box.check("amdgpu-power-level").fixable());
  box.state.amdgpu.power_levels[1].level = "low";
  EXPECT_EQ(box.check("amdgpu-power-level").severity, Severity::kWarning);
  EXPECT_TRUE(box.check("amdgpu-power-level").fixable());
}

// Vulkan

TEST(CheckVulkan, AmdvlkShadowsRadv) {
  Box box;
  EXPECT_EQ(box.check("amdvlk").severity, Severity::kOk);
  box.state.installed.vulkan_icds.push_back("amd_icd64.json");
  EXPECT_EQ(box.check("amdvlk").severity, Severity::kWarning);
  EXPECT_TRUE(mentions(box.check("amdvlk").fix, "sudo dnf remove amdvlk"));
  box.state.installed.vulkan_icds = {"radeon_icd.json"};
  box.gpu().vulkan_drivers.resize(1);
  box.gpu().vulkan_drivers[0].driver = hardware::VulkanDriver::kAmdvlk;
  EXPECT_EQ(box.check("amdvlk").severity, Severity::kWarning);
}

TEST(CheckVulkan, AMissingDriverBlocksWhereNothingElseWorks) {
  Box box;
  box.state.installed.vulkan_icds = {"lvp_icd.x86_64.json"};
  EXPECT_EQ(box.check("vulkan-driver-0000:c5:00.0").severity, Severity::kWarning);
  box.gpu().backends = {
      {Backend::kVulkan, false, ""}, {Backend::kRocm, false, ""}, {Backend::kCpu, true, ""}};
  EXPECT_EQ(box.check("vulkan-driver-0000:c5:00.0").severity, Severity::kBlocking);
  EXPECT_EQ(box.check("vulkan-driver-0000:c5:00.0").fix, "sudo dnf install mesa-vulkan-drivers");
}

TEST(CheckVulkan, AMissingLoaderIsNoticedWhereItWasAskedFor) {
  Box box;
  EXPECT_EQ(find(box.check(), "vulkan-loader"), nullptr);
  hardware::Observation asked;
  asked.source = hardware::Source::kVulkan;
  asked.outcome = hardware::Outcome::kAbsent;
  box.machine.observations = {asked};
  EXPECT_EQ(box.check("vulkan-loader").severity, Severity::kWarning);
  box.machine.observations[0].outcome = hardware::Outcome::kFailed;
  EXPECT_EQ(box.check("vulkan-loader").severity, Severity::kOk);
}

// Access

TEST(CheckAccess, GroupsDecide) {
  Box box;
  EXPECT_EQ(box.check("access-renderD128").severity, Severity::kOk);
  box.state.installed.nodes.render[128].accessible = false;
  Finding finding = box.check("access-renderD128");
  EXPECT_EQ(finding.severity, Severity::kBlocking);
  EXPECT_TRUE(mentions(finding.fix, "sudo usermod -aG render,video \"$USER\""));
  // The desktop's login lets in who is in no group.
  box.state.installed.nodes.render[128].accessible = true;
  box.state.account.groups = {1000};
  EXPECT_EQ(box.check("access-renderD128").severity, Severity::kInfo);
  box.state.node_modes["/dev/dri/renderD128"] = 0666;
  EXPECT_EQ(box.check("access-renderD128").severity, Severity::kOk);
}

TEST(CheckAccess, BehindSudoTheCallerCounts) {
  Box box;
  box.state.account = {0, {0}};
  box.options.account = Account{1000, {1000}};
  EXPECT_EQ(box.check("access-kfd").severity, Severity::kWarning);
  box.options.account = Account{1000, {1000, 105}};
  EXPECT_EQ(box.check("access-kfd").severity, Severity::kOk);
}

TEST(CheckAccess, ANodeWithoutAGroupNeedsUdev) {
  Box box;
  box.state.installed.nodes.kfd.accessible = false;
  box.state.installed.nodes.kfd.group = "root";
  EXPECT_TRUE(mentions(box.check("access-kfd").fix, "udevadm"));
  box.state.installed.nodes.kfd.present = false;
  EXPECT_EQ(box.check("access-kfd").found, "it does not exist");
}

TEST(CheckAccess, LockedMemoryIsComparedWithWhatTheModelsWant) {
  Box box;
  EXPECT_EQ(box.check("memory-lock").severity, Severity::kOk);
  box.state.memory_lock = 8u << 20;
  const Finding finding = box.check("memory-lock");
  EXPECT_EQ(finding.severity, Severity::kWarning);
  EXPECT_EQ(finding.settings,
            (std::vector<Setting>{{Setting::Kind::kMemoryLock, "@render", "unlimited"}}));
  box.options.lock_bytes = 8u << 20;
  EXPECT_EQ(box.check("memory-lock").severity, Severity::kOk);
  box.options.lock_bytes = (8u << 20) + 1;
  EXPECT_EQ(box.check("memory-lock").severity, Severity::kWarning);
  box.state.memory_lock = box.machine.host.memory.total;
  EXPECT_EQ(box.check("memory-lock").severity, Severity::kOk);
}

TEST(CheckAccess, RootIsNotBoundButItsCallerIs) {
  Box box;
  box.state.memory_lock = 8u << 20;
  box.state.may_lock_any = true;
  EXPECT_EQ(box.check("memory-lock").severity, Severity::kOk);
  box.options.account = Account{1000, {1000, 105}};
  EXPECT_EQ(box.check("memory-lock").severity, Severity::kWarning);
}

// Host

TEST(CheckHost, SwapOnDiskWantsALowSwappiness) {
  Box box;
  EXPECT_EQ(box.check("swap").found, "none");
  box.state.swaps = {{"/dev/zram0", 8 * kGib}};
  box.state.swappiness = 180;
  EXPECT_EQ(box.check("swap").severity, Severity::kOk);
  box.state.swaps.push_back({"/swapfile", UINT64_MAX});
  EXPECT_EQ(box.check("swap").severity, Severity::kInfo);
  EXPECT_TRUE(box.check("swap").fixable());
  box.state.swappiness = 10;
  EXPECT_EQ(box.check("swap").severity, Severity::kOk);
}

TEST(CheckHost, HugePagesOnlyMustNotBeForbidden) {
  Box box;
  box.state.huge_pages = "always";
  EXPECT_EQ(box.check("huge-pages").severity, Severity::kOk);
  box.state.huge_pages = "never";
  EXPECT_EQ(box.check("huge-pages").severity, Severity::kInfo);
  EXPECT_TRUE(box.check("huge-pages").fixable());
}

TEST(CheckHost, PowersaveIsBadUnlessTheHardwarePicksTheClock) {
  const auto severity = [](const char* driver, const char* governor, const char* preference) {
    Box box;
    box.machine.host.cpu.governor = governor;
    box.state.frequency_driver = driver;
    box.state.energy_preference = preference;
    return box.check("cpu-governor").severity;
  };
  EXPECT_EQ(severity("acpi-cpufreq", "powersave", ""), Severity::kWarning);
  EXPECT_EQ(severity("amd-pstate", "powersave", ""), Severity::kWarning);
  EXPECT_EQ(severity("amd-pstate-epp", "powersave", "balance_performance"), Severity::kOk);
  EXPECT_EQ(severity("intel_pstate", "powersave", "power"), Severity::kInfo);
  EXPECT_EQ(severity("", "performance", ""), Severity::kOk);
}

// NVIDIA

TEST(CheckNvidia, TheDriversAgeIsJudged) {
  Box box;
  box.gpu().vendor = hardware::Vendor::kNvidia;
  box.gpu().backends.clear();
  EXPECT_EQ(box.check("nvidia-driver").severity, Severity::kBlocking);
  box.gpu().backends = {{Backend::kVulkan, true, "NVK"}};
  box.gpu().driver = hardware::Fact<std::string>{"nouveau", hardware::Source::kDrm};
  EXPECT_EQ(box.check("nvidia-driver").severity, Severity::kWarning);
  EXPECT_EQ(box.check("nvidia-driver").found, "nouveau in its place");
  const auto severity = [&](const char* version) {
    box.state.nvidia_version = version;
    return box.check("nvidia-driver").severity;
  };
  EXPECT_EQ(severity("580.95.05"), Severity::kOk);
  EXPECT_EQ(severity("550.54.14"), Severity::kInfo);
  EXPECT_EQ(severity("470.256.02"), Severity::kWarning);
  EXPECT_EQ(severity("odd"), Severity::kOk);
}

TEST(CheckNvidia, LibrariesOfCudaAreLookedFor) {
  Box box;
  box.gpu().vendor = hardware::Vendor::kNvidia;
  box.gpu().backends.clear();
  EXPECT_EQ(find(box.check(), "cuda-libraries"), nullptr);  // The driver comes first.
  box.state.nvidia_version = "580.95.05";
  EXPECT_EQ(box.check("cuda-libraries").severity, Severity::kWarning);
  box.state.cuda.unlinked_dir = "/usr/local/cuda-13.0/lib64";
  EXPECT_THAT(box.check("cuda-libraries").fix, testing::HasSubstr("/usr/local/cuda-13.0/lib64"));
  box.gpu().backends = {{Backend::kVulkan, true, ""}};
  EXPECT_EQ(box.check("cuda-libraries").severity, Severity::kInfo);
  box.state.cuda = {{13}, ""};
  EXPECT_EQ(box.check("cuda-libraries").severity, Severity::kOk);
}

TEST(CheckNvidia, PersistenceIsWorthKnowing) {
  Box box;
  box.gpu().vendor = hardware::Vendor::kNvidia;
  EXPECT_EQ(find(box.check(), "nvidia-persistence"), nullptr);
  box.gpu().persistence = false;
  EXPECT_EQ(box.check("nvidia-persistence").severity, Severity::kInfo);
  box.gpu().persistence = true;
  EXPECT_EQ(box.check("nvidia-persistence").severity, Severity::kOk);
}

// What --fix wrote already

TEST(Check, WhatWaitsForARebootIsNotWrittenAgain) {
  Box box;
  box.machine.host.kernel = hardware::KernelVersion{7, 0, 0};
  box.state.own_files["/etc/modprobe.d/yoke.conf"] =
      "options amdgpu lockup_timeout=10000,60000,10000,10000\n";
  const Finding finding = box.check("amdgpu-lockup-timeout");
  EXPECT_EQ(finding.severity, Severity::kWarning);
  EXPECT_FALSE(finding.fixable());
  EXPECT_TRUE(finding.fix.starts_with("Reboot: /etc/modprobe.d/yoke.conf"));
}

TEST(Check, WhatTheBootLoaderOverridesIsWrittenThereToo) {
  Box box;
  box.machine.host.kernel = hardware::KernelVersion{7, 0, 0};
  box.machine.host.kernel_arguments = {"amdgpu.lockup_timeout=2000"};
  box.state.amdgpu.lockup_timeout = "2000";
  box.state.distribution.grub_directory = true;
  box.state.own_files["/etc/modprobe.d/yoke.conf"] =
      "options amdgpu lockup_timeout=10000,60000,10000,10000\n";
  EXPECT_TRUE(box.check("amdgpu-lockup-timeout").fixable());
}

TEST(Check, GpuMemoryThatWaitsForARebootIsSaid) {
  Box box;
  box.state.amdgpu.pages_limit = 62 * kPagesPerGib;
  box.gpu().memory.gtt = 62 * kGib;
  box.state.module_options = {{"ttm", "pages_limit", "31457280", "/etc/modprobe.d/yoke.conf"}};
  EXPECT_TRUE(box.check("ttm-pages-limit").fix.starts_with("Reboot: "));
}

}  // namespace
}  // namespace yoke::doctor
