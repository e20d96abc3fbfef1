#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hardware/kernel_devices.h"
#include "hardware/test_support.h"

namespace yoke::hardware {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr std::uint64_t kGiB = 1ull << 30;

Observation kfd_of(std::string_view machine) {
  return detect_kfd(FakeRoot::machine(machine).files());
}

TEST(DetectKfd, SeesStrixHalo) {
  const Observation seen = kfd_of("strix-halo-512m");
  EXPECT_EQ(seen.source, Source::kKfd);
  EXPECT_EQ(seen.outcome, Outcome::kFound);
  EXPECT_THAT(seen.notes, IsEmpty());
  ASSERT_THAT(seen.devices, SizeIs(1));
  const ObservedDevice& gpu = seen.devices[0];
  EXPECT_EQ(gpu.pci_address, "0000:c5:00.0");
  EXPECT_EQ(gpu.vendor, Vendor::kAmd);
  EXPECT_EQ(gpu.pci_device_id, 0x1586u);
  EXPECT_EQ(gpu.gfx, "gfx1151");
  EXPECT_EQ(gpu.render_minor, 128);
  EXPECT_EQ(gpu.driver, "amdgpu");
  // What HIP can have, which is no carve-out.
  EXPECT_EQ(gpu.memory_total, 120 * kGiB);
  EXPECT_EQ(gpu.vram_total, std::nullopt);
}

// The 15.5 GiB on a box with 128 GB that users report: ttm.pages_limit at its default.
TEST(DetectKfd, ShowsTheLimitThatHipRunsInto) {
  const Observation seen = kfd_of("strix-halo-96g");
  ASSERT_THAT(seen.devices, SizeIs(1));
  EXPECT_EQ(seen.devices[0].memory_total, 16632954880u);
}

TEST(DetectKfd, SeesTheGfxVersionsOfAllMachines) {
  const Observation radeons = kfd_of("two-radeons");
  ASSERT_THAT(radeons.devices, SizeIs(2));
  EXPECT_EQ(radeons.devices[0].gfx, "gfx1100");
  EXPECT_EQ(radeons.devices[0].pci_address, "0000:03:00.0");
  EXPECT_EQ(radeons.devices[1].gfx, "gfx1201");
  EXPECT_EQ(radeons.devices[1].pci_address, "0000:06:00.0");
  EXPECT_EQ(kfd_of("mi300").devices.at(0).gfx, "gfx942");
  EXPECT_EQ(kfd_of("mi300").devices.at(0).pci_address, "0000:83:00.0");
  EXPECT_EQ(kfd_of("laptop-igpu-dgpu").devices.at(0).gfx, "gfx1103");
  EXPECT_EQ(kfd_of("container-no-kfd").devices.at(0).gfx, "gfx1151");
}

TEST(DetectKfd, IsAbsentWithoutTheDriver) {
  for (const char* machine : {"nothing", "nvidia"}) {
    const Observation seen = kfd_of(machine);
    EXPECT_EQ(seen.outcome, Outcome::kAbsent);
    EXPECT_THAT(seen.detail, HasSubstr("not loaded"));
  }
}

TEST(DetectKfd, CountsProcessorsAsNoDevices) {
  FakeRoot root;
  root.write("/sys/class/kfd/kfd/topology/nodes/0/properties",
             "cpu_cores_count 16\ngfx_target_version 0\n");
  const Observation seen = detect_kfd(root.files());
  EXPECT_EQ(seen.outcome, Outcome::kNoDevices);
  EXPECT_THAT(seen.notes, IsEmpty());
}

TEST(DetectKfd, AddsUpVisibleAndInvisibleFrameBuffer) {
  FakeRoot root;
  const std::string node = "/sys/class/kfd/kfd/topology/nodes/1";
  root.write(node + "/properties", "gfx_target_version 110000\nlocation_id 768\n");
  root.write(node + "/mem_banks/0/properties", "heap_type 1\nsize_in_bytes 268435456\n");
  root.write(node + "/mem_banks/1/properties", "heap_type 2\nsize_in_bytes 25484591104\n");
  root.write(node + "/mem_banks/2/properties", "heap_type 4\nsize_in_bytes 65536\n");
  EXPECT_EQ(detect_kfd(root.files()).devices.at(0).memory_total, 25753026560u);
}

TEST(DetectKfd, SkipsWhatIsMalformedWithANoteAndKeepsTheRest) {
  const Observation seen = kfd_of("hostile");
  ASSERT_THAT(seen.devices, SizeIs(1));
  const ObservedDevice& gpu = seen.devices[0];
  EXPECT_EQ(gpu.gfx, "gfx1100");
  EXPECT_EQ(gpu.pci_address, "0000:03:00.0");
  EXPECT_EQ(gpu.memory_total, 25753026560u);
  for (const char* part :
       {"nodes/1/mem_banks/0/properties describes no memory",
        "nodes/2/properties has no readable gfx", "nodes/3/properties has no readable gfx",
        "nodes/4/properties has no readable gfx", "nodes/5/properties is larger than",
        "nodes/6/properties can't be read", "nodes/7/properties has no readable gfx",
        "nodes/8/properties can't be read", "nodes/9/properties has no readable location_id"}) {
    EXPECT_THAT(seen.notes, Contains(HasSubstr(part)));
  }
}

TEST(DetectKfd, KeepsADeviceWhoseVersionIsNone) {
  FakeRoot root;
  root.write("/sys/class/kfd/kfd/topology/nodes/1/properties",
             "gfx_target_version 42\nlocation_id 768\n");
  const Observation seen = detect_kfd(root.files());
  ASSERT_THAT(seen.devices, SizeIs(1));
  EXPECT_EQ(seen.devices[0].gfx, std::nullopt);
  EXPECT_THAT(seen.notes, SizeIs(1));
}

}  // namespace
}  // namespace yoke::hardware
