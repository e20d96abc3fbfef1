#include "doctor/state.h"

#include <gtest/gtest.h>

#include "doctor/packages.h"
#include "doctor/text.h"
#include "hardware/detect.h"
#include "hardware/test_support.h"

namespace yoke::doctor {
namespace {

using hardware::FakeRoot;

SystemState state_of(const FakeRoot& root) {
  const hardware::Machine machine = hardware::detect({.files = root.files()});
  return read_state(root.files(), machine);
}

TEST(Text, IsTakenApart) {
  EXPECT_EQ(lines_of("a\n\nb"), (std::vector<std::string_view>{"a", "", "b"}));
  EXPECT_TRUE(lines_of("").empty());
  EXPECT_EQ(words_of(" a\tb  c "), (std::vector<std::string_view>{"a", "b", "c"}));
  EXPECT_EQ(split("a,,b", ','), (std::vector<std::string_view>{"a", "", "b"}));
  EXPECT_EQ(number_of<int>("-12"), -12);
  for (const char* text : {"", "1 ", "x", "1.5", "99999999999999999999", "+1", "--1"}) {
    EXPECT_FALSE(number_of<std::int64_t>(text)) << text;
  }
  EXPECT_FALSE(number_of<std::uint32_t>("-1"));
}

TEST(ReadState, SeesTheDriverOfAStrixHalo) {
  const SystemState state = state_of(FakeRoot::machine("strix-halo-96g"));
  EXPECT_EQ(state.amdgpu.pages_limit, 4'060'780u);
  EXPECT_EQ(state.amdgpu.gttsize, 107'520);
  EXPECT_EQ(state.amdgpu.lockup_timeout, "");
  EXPECT_EQ(state.amdgpu.cwsr_enable, 1);
  EXPECT_EQ(state.firmware_package, "linux-firmware");
  EXPECT_TRUE(state.firmware_version.starts_with("20251125"));
  EXPECT_EQ(state.swappiness, 60u);
  ASSERT_EQ(state.swaps.size(), 1u);
  EXPECT_EQ(state.huge_pages, "madvise");
  EXPECT_EQ(state.account.uid, 1000u);
  EXPECT_TRUE(state.distribution.grub_directory);
  EXPECT_FALSE(state.may_lock_any);
}

TEST(ReadState, FindsModuleOptionsInModprobesOrder) {
  FakeRoot root("== file /etc/os-release\nID=arch\n");
  root.write("/usr/lib/modprobe.d/amd.conf", "options ttm pages_limit=1\n");
  root.write("/etc/modprobe.d/amd.conf", "options ttm pages_limit=2 page_pool_size=3\n");
  root.write("/usr/lib/modprobe.d/zz.conf", "options amdgpu gttsize=5\noptions snd x=1\n");
  root.write("/etc/modprobe.d/amd.conf~", "options ttm pages_limit=9\n");
  const SystemState state = state_of(root);
  ASSERT_NE(module_option(state, "ttm", "pages_limit"), nullptr);
  EXPECT_EQ(module_option(state, "ttm", "pages_limit")->value, "2");
  EXPECT_EQ(module_option(state, "ttm", "pages_limit")->file, "/etc/modprobe.d/amd.conf");
  EXPECT_EQ(module_option(state, "amdgpu", "gttsize")->value, "5");
  EXPECT_EQ(module_option(state, "amdgpu", "gttsize", "/usr/lib/modprobe.d/zz.conf"), nullptr);
  EXPECT_EQ(state.module_options.size(), 3u);
}

TEST(ReadState, KnowsModulesThatArePartOfTheKernel) {
  FakeRoot root;
  root.write("/proc/sys/kernel/osrelease", "6.18.4\n");
  root.write("/lib/modules/6.18.4/modules.builtin",
             "kernel/drivers/gpu/drm/ttm/ttm.ko\nkernel/drivers/gpu/drm/xamdgpu.ko\n");
  EXPECT_EQ(state_of(root).built_in, (std::vector<std::string>{"ttm"}));
}

TEST(ReadState, SurvivesHostileFiles) {
  EXPECT_NO_THROW(state_of(FakeRoot::machine("hostile")));
  FakeRoot root;
  root.write("/proc/self/limits", "Max locked memory\nMax locked memory   -1 x bytes\n");
  root.write("/proc/self/status", "Uid:\tx\nCapEff:\tzz\nGroups:\t-1 99999999999 7\n");
  root.write("/proc/swaps", "Filename\n/swap file 99999999999999999999 0\n/swap file -1 0\nx\n");
  root.write("/sys/kernel/mm/transparent_hugepage/enabled", "][\n");
  root.write("/sys/module/amdgpu/parameters/gttsize", "many\n");
  root.write("/etc/modprobe.d/a.conf", "options\noptions ttm\noptions ttm =\noptions ttm a\n");
  root.write("/etc/passwd", ":::\nx\n");
  root.write("/etc/group", "\n:\n");
  const SystemState state = state_of(root);
  EXPECT_FALSE(state.memory_lock);
  EXPECT_FALSE(state.may_lock_any);
  EXPECT_EQ(state.account.groups, (std::vector<gid_t>{7}));
  EXPECT_TRUE(state.swaps.empty());
  EXPECT_EQ(state.huge_pages, "");
  EXPECT_FALSE(state.amdgpu.gttsize);
  EXPECT_EQ(read_account(root.files(), 0).groups.size(), 0u);
}

TEST(ReadAccount, CollectsTheGroups) {
  FakeRoot root;
  root.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nbob:x:1001:1001::/home/bob:/bin/sh\n");
  root.write("/etc/group", "render:x:105:alice,bob\nvideo:x:44:bobby\nbob:x:1001:\n");
  EXPECT_EQ(read_account(root.files(), 1001).groups, (std::vector<gid_t>{1001, 105}));
  EXPECT_TRUE(read_account(root.files(), 7).groups.empty());
}

TEST(KernelArgument, IsTheLastOne) {
  hardware::Host host;
  host.kernel_arguments = {"quiet", "ttm.pages_limit=1", "ttm.pages_limit=2", "ttm.pages_limits=3"};
  EXPECT_EQ(kernel_argument(host, "ttm.pages_limit"), "2");
  EXPECT_FALSE(kernel_argument(host, "quiet"));
}

TEST(FindPackage, ReadsDpkg) {
  FakeRoot root;
  root.write("/var/lib/dpkg/status",
             "Package: firmware-amd-graphics-extra\nStatus: install ok installed\nVersion: 1\n\n"
             "Package: linux-firmware\nStatus: deinstall ok config-files\nVersion: 2\n\n"
             "Package: firmware-amd-graphics\nStatus: install ok installed\n"
             "Depends: x\nVersion: 20251125-1\n\nPackage: z\nStatus: install ok installed\n");
  EXPECT_EQ(find_package(root.files(), {"firmware-amd-graphics"})->version, "20251125-1");
  EXPECT_FALSE(find_package(root.files(), {"linux-firmware"}));
  EXPECT_FALSE(find_package(root.files(), {"z"}));
}

TEST(FindPackage, ReadsPacman) {
  FakeRoot root;
  root.make_directory("/var/lib/pacman/local/linux-firmware-whence-20251125-2");
  root.make_directory("/var/lib/pacman/local/linux-firmware-20251125-2");
  const auto package = find_package(root.files(), {"linux-firmware-amdgpu", "linux-firmware"});
  ASSERT_TRUE(package);
  EXPECT_EQ(package->name, "linux-firmware");
  EXPECT_EQ(package->version, "20251125-2");
}

TEST(FindPackage, ReadsDnf) {
  FakeRoot root;
  root.write("/usr/lib/sysimage/libdnf5/nevras.toml",
             "version = \"1.0\"\n[nevras]\n"
             "\"amd-gpu-firmware-0:20251125-1.fc43.noarch\" = {from_repo=\"updates\"}\n");
  EXPECT_EQ(find_package(root.files(), {"amd-gpu-firmware"})->version, "20251125-1.fc43");
  root.write("/usr/lib/sysimage/libdnf5/nevras.toml", "\"amd-gpu-firmware-");
  EXPECT_FALSE(find_package(root.files(), {"amd-gpu-firmware"}));
}

struct Layout {
  const char* files;
  Distribution::Family family;
  const char* initramfs;
};

TEST(ReadDistribution, KnowsHowEachRebuildsItsInitramfs) {
  using Family = Distribution::Family;
  const Layout layouts[] = {
      {"== file /etc/os-release\nID=debian\n", Family::kDebian, "update-initramfs -u -k all"},
      {"== file /etc/os-release\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Family::kDebian,
       "update-initramfs -u -k all"},
      {"== file /etc/os-release\nID=debian\n== file /usr/bin/dracut\n", Family::kDebian,
       "dracut --force --regenerate-all"},
      {"== file /etc/os-release\nID=fedora\n", Family::kFedora, "dracut --force --regenerate-all"},
      {"== file /etc/os-release\nID=\"nobara\"\nID_LIKE=\"rhel fedora\"\n", Family::kFedora,
       "dracut --force --regenerate-all"},
      {"== file /etc/os-release\nID=fedora\n== file /run/ostree-booted\n", Family::kFedora, ""},
      {"== file /etc/os-release\nID=arch\n== file /etc/mkinitcpio.conf\n", Family::kArch,
       "mkinitcpio -P"},
      {"== file /etc/os-release\nID=endeavouros\nID_LIKE=arch\n== file /usr/bin/dracut\n",
       Family::kArch, "dracut --force --regenerate-all"},
      {"== file /usr/lib/os-release\nID=nixos\n", Family::kNixos, ""},
      {"== file /etc/os-release\nID=\"\nID_LIKE\n", Family::kOther, ""},
      {"", Family::kOther, ""},
  };
  for (const Layout& layout : layouts) {
    const FakeRoot root(layout.files);
    const Distribution distribution = read_distribution(root.files());
    EXPECT_EQ(distribution.family, layout.family) << layout.files;
    EXPECT_EQ(to_string(rebuild_initramfs(distribution)), layout.initramfs) << layout.files;
  }
}

}  // namespace
}  // namespace yoke::doctor
