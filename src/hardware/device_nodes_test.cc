#include "hardware/device_nodes.h"

#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hardware/test_support.h"

namespace yoke::hardware {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Device amd_gpu(int minor = 128) {
  Device device;
  device.vendor = Vendor::kAmd;
  device.driver = Fact<std::string>{"amdgpu", Source::kDrm, {}};
  device.render_minor = minor;
  return device;
}

std::string status_of_user(const std::string& groups) {
  return "Name:\tyoke\nUid:\t4711\t4711\t4711\t4711\nGid:\t4711\t4711\t4711\t4711\nGroups:\t" +
         groups + "\n";
}

// Nodes of the group of whoever runs the tests, so that nobody has to be root.
class DeviceNodesTest : public testing::Test {
 protected:
  DeviceNodesTest() {
    const auto gid = std::to_string(::getegid());
    root_.write("/etc/group", "broken\nroot:x:0x:\ncomputers:x:" + gid + ":someone\n");
    make_node("/dev/kfd", 0660);
    make_node("/dev/dri/renderD128", 0660);
    root_.write("/proc/self/status", status_of_user(gid));
  }
  void make_node(const std::string& path, unsigned mode) {
    root_.write(path, "");
    std::filesystem::permissions(root_.at(path), static_cast<std::filesystem::perms>(mode));
  }
  std::vector<std::string> found(const Container& container = {}) {
    const std::vector<Device> devices{amd_gpu()};
    return obstacles(read_device_nodes(root_.files(), devices), devices, container);
  }

  FakeRoot root_;
};

TEST_F(DeviceNodesTest, AMemberOfTheGroupMayOpenThem) { EXPECT_THAT(found(), IsEmpty()); }

TEST(Obstacle, OthersAreToldTheGroup) {
  const DeviceNode node{"/dev/kfd", true, false, 992, "render"};
  EXPECT_EQ(
      obstacle(node, {}),
      "/dev/kfd is open to group render only: run `sudo usermod -aG render $USER`, then log in "
      "again.");
  EXPECT_THAT(obstacle(node, {"docker"}), HasSubstr("--group-add 992`"));
  const DeviceNode nameless{"/dev/kfd", true, false, 992, ""};
  EXPECT_THAT(obstacle(nameless, {}), HasSubstr("group 992 only"));
}

TEST_F(DeviceNodesTest, OthersMayNot) {
  root_.write("/proc/self/status", status_of_user("4711"));
  EXPECT_THAT(found(), ElementsAre(HasSubstr("/dev/kfd is open to"),
                                   HasSubstr("/dev/dri/renderD128 is open to")));
}

TEST_F(DeviceNodesTest, TheGroupHasItsName) {
  EXPECT_EQ(read_device_nodes(root_.files(), {amd_gpu()}).kfd.group, "computers");
}

TEST(Obstacle, NobodyIsToldToJoinRoot) {
  const DeviceNode node{"/dev/kfd", true, false, 0, "root"};
  EXPECT_EQ(obstacle(node, {}),
            "/dev/kfd is open to root only: it should belong to the group render.");
  EXPECT_EQ(obstacle(node, {"docker"}), obstacle(node, {}));
}

TEST_F(DeviceNodesTest, EverybodyMayOpenWhatIsOpen) {
  root_.write("/proc/self/status", status_of_user("4711"));
  make_node("/dev/kfd", 0666);
  make_node("/dev/dri/renderD128", 0666);
  EXPECT_THAT(found(), IsEmpty());
}

TEST_F(DeviceNodesTest, RootMayOpenAll) {
  root_.write("/proc/self/status", "Uid:\t0\t0\t0\t0\n");
  make_node("/dev/kfd", 0600);
  EXPECT_THAT(found(), IsEmpty());
}

TEST_F(DeviceNodesTest, ReadingAloneIsNotEnough) {
  make_node("/dev/kfd", 0640);
  EXPECT_THAT(found(), ElementsAre(HasSubstr("/dev/kfd")));
}

TEST_F(DeviceNodesTest, MissingOnesAreNamed) {
  root_.remove("/dev/kfd");
  root_.remove("/dev/dri");
  EXPECT_THAT(found(), ElementsAre(HasSubstr("CONFIG_HSA_AMD"), HasSubstr("renderD128")));
  EXPECT_THAT(found({"podman"}),
              ElementsAre(HasSubstr("--device /dev/kfd"), HasSubstr("--device /dev/dri")));
  EXPECT_THAT(found({"lxc"}), ElementsAre(HasSubstr("lxc container"), HasSubstr("lxc container")));
}

TEST_F(DeviceNodesTest, AnUnreadableStatusMeansRoot) {
  root_.remove("/proc/self/status");
  make_node("/dev/kfd", 0600);
  EXPECT_THAT(found(), IsEmpty());
}

TEST_F(DeviceNodesTest, NvidiaNeedsItsOwnNodeOnly) {
  Device device;
  device.vendor = Vendor::kNvidia;
  device.render_minor = 129;
  device.driver = Fact<std::string>{"nvidia", Source::kDrm, {}};
  const std::vector<Device> devices{device};
  const DeviceNodes nodes = read_device_nodes(root_.files(), devices);
  EXPECT_THAT(obstacles(nodes, devices, {"docker"}), ElementsAre(HasSubstr("--gpus all")));
  EXPECT_THAT(obstacles(nodes, {}, {"docker"}), IsEmpty());
}

TEST_F(DeviceNodesTest, TwoGpusShareOneComplaintAboutKfd) {
  root_.remove("/dev/kfd");
  make_node("/dev/dri/renderD129", 0666);
  const std::vector<Device> devices{amd_gpu(128), amd_gpu(129)};
  EXPECT_THAT(obstacles(read_device_nodes(root_.files(), devices), devices, {}),
              ElementsAre(HasSubstr("/dev/kfd")));
}

}  // namespace
}  // namespace yoke::hardware
