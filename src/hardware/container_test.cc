#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hardware/host.h"
#include "hardware/test_support.h"

namespace yoke::hardware {
namespace {

using testing::Contains;
using testing::HasSubstr;

std::string kind_in(const FakeRoot& root) { return read_host(root.files()).container.kind; }

constexpr std::string_view kHostRoot = "61 1 259:3 / / rw - ext4 /dev/vda rw\n";
constexpr std::string_view kOverlayRoot = "61 1 0:172 / / rw - overlay overlay rw,lowerdir=/x\n";

TEST(Container, IsNoneOnAMachine) {
  FakeRoot root;
  root.write("/proc/self/mountinfo", kHostRoot);
  root.write("/proc/self/cgroup", "0::/user.slice/user-1000.slice/session-3.scope\n");
  EXPECT_EQ(kind_in(root), "");
}

TEST(Container, IsDockerByItsMark) {
  FakeRoot root;
  root.write("/.dockerenv", "");
  EXPECT_EQ(kind_in(root), "docker");
  root.write("/proc/self/mountinfo", kOverlayRoot);
  EXPECT_EQ(kind_in(root), "docker");
  root.write("/proc/self/mountinfo",
             std::string(kHostRoot) + "62 61 0:36 /x/hosts /etc/hosts rw - btrfs /dev/vda rw\n");
  EXPECT_EQ(kind_in(root), "docker");
}

TEST(Container, IsNoneInAVirtualMachineMadeFromAnImage) {
  FakeRoot root;
  root.write("/.dockerenv", "");
  root.write("/proc/self/mountinfo", kHostRoot);
  const Host host = read_host(root.files());
  EXPECT_EQ(host.container.kind, "");
  EXPECT_THAT(host.notes, Contains(HasSubstr("/.dockerenv exists")));
}

TEST(Container, IsDockerByTheOriginOfItsFiles) {
  FakeRoot root;
  root.write("/proc/self/mountinfo",
             "62 61 0:36 /var/lib/docker/containers/5f1d/hosts /etc/hosts rw "
             "- ext4 /dev/vda rw\n");
  EXPECT_EQ(kind_in(root), "docker");
}

TEST(Container, IsNoneOnAHostThatRunsContainers) {
  FakeRoot root;
  root.write("/proc/self/mountinfo",
             std::string(kHostRoot) +
                 "70 61 0:9 / /var/lib/docker/overlay2/abc/merged rw - overlay overlay rw\n"
                 "71 61 0:10 / /var/lib/lxcfs rw - fuse.lxcfs lxcfs rw\n");
  EXPECT_EQ(kind_in(root), "");
}

TEST(Container, IsPodmanByItsMark) {
  FakeRoot root;
  root.write("/run/.containerenv", "engine=\"podman-5.4.0\"\n");
  EXPECT_EQ(kind_in(root), "podman");
}

TEST(Container, IsKubernetesBeforeItsEngine) {
  FakeRoot root;
  root.write("/.dockerenv", "");
  root.write("/proc/self/cgroup",
             "0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-2.scope\n");
  EXPECT_EQ(kind_in(root), "kubernetes");
  FakeRoot other;
  other.make_directory("/run/secrets/kubernetes.io/serviceaccount");
  EXPECT_EQ(kind_in(other), "kubernetes");
}

TEST(Container, IsWhatSystemdWroteDown) {
  FakeRoot root;
  root.write("/run/systemd/container", "systemd-nspawn\n");
  EXPECT_EQ(kind_in(root), "systemd-nspawn");
  root.write("/run/systemd/container", "\x1b[31m\n");
  EXPECT_EQ(kind_in(root), "");
}

TEST(Container, IsWhatTheFirstProcessWasTold) {
  FakeRoot root;
  root.write("/proc/1/environ", std::string("PATH=/bin\0container=lxc\0TERM=x\0", 32));
  EXPECT_EQ(kind_in(root), "lxc");
  root.write("/proc/1/environ", std::string("PATH=/bin\0xcontainer=lxc\0", 25));
  EXPECT_EQ(kind_in(root), "");
}

TEST(Container, IsLxcByItsCgroupOrItsFiles) {
  FakeRoot root;
  root.write("/proc/self/cgroup", "0::/lxc.payload.web/system.slice\n");
  EXPECT_EQ(kind_in(root), "lxc");
  FakeRoot other;
  other.write("/proc/self/mountinfo",
              "70 61 0:9 /proc/cpuinfo /proc/cpuinfo rw - fuse.lxcfs lxcfs rw\n");
  EXPECT_EQ(kind_in(other), "lxc");
}

}  // namespace
}  // namespace yoke::hardware
