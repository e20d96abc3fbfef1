#include <sys/stat.h>

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
constexpr const char* kHalo = "/sys/devices/pci0000:00/0000:00:08.1/0000:c5:00.0";

Observation drm_of(std::string_view machine) {
  return detect_drm(FakeRoot::machine(machine).files());
}

TEST(DetectDrm, SeesStrixHaloWithASmallCarveOut) {
  const Observation seen = drm_of("strix-halo-512m");
  EXPECT_EQ(seen.source, Source::kDrm);
  EXPECT_EQ(seen.outcome, Outcome::kFound);
  EXPECT_THAT(seen.notes, IsEmpty());
  ASSERT_THAT(seen.devices, SizeIs(1));
  const ObservedDevice& gpu = seen.devices[0];
  EXPECT_EQ(gpu.pci_address, "0000:c5:00.0");
  EXPECT_EQ(gpu.vendor, Vendor::kAmd);
  EXPECT_EQ(gpu.pci_device_id, 0x1586u);
  EXPECT_EQ(gpu.driver, "amdgpu");
  EXPECT_EQ(gpu.driver_version, std::nullopt);
  EXPECT_EQ(gpu.name, std::nullopt);
  EXPECT_EQ(gpu.integrated, true);
  EXPECT_EQ(gpu.render_minor, 128);
  EXPECT_EQ(gpu.vram_total, kGiB / 2);
  EXPECT_EQ(gpu.vram_used, 173834240u);
  EXPECT_EQ(gpu.gtt_total, 120 * kGiB);
  EXPECT_EQ(gpu.gtt_used, 31457280u);
}

// Ollama's rule of thumb for integrated GPUs fails here.
TEST(DetectDrm, TakesALargeCarveOutForWhatItIs) {
  const Observation seen = drm_of("strix-halo-96g");
  ASSERT_THAT(seen.devices, SizeIs(1));
  EXPECT_EQ(seen.devices[0].integrated, true);
  EXPECT_EQ(seen.devices[0].vram_total, 96 * kGiB);
  EXPECT_EQ(seen.devices[0].gtt_total, 105 * kGiB);
}

TEST(DetectDrm, SeesTwoDiscreteRadeons) {
  const Observation seen = drm_of("two-radeons");
  ASSERT_THAT(seen.devices, SizeIs(2));
  EXPECT_EQ(seen.devices[0].pci_address, "0000:03:00.0");
  EXPECT_EQ(seen.devices[0].integrated, false);
  EXPECT_EQ(seen.devices[0].vram_total, 25753026560u);
  EXPECT_EQ(seen.devices[0].render_minor, 128);
  EXPECT_EQ(seen.devices[1].pci_address, "0000:06:00.0");
  EXPECT_EQ(seen.devices[1].integrated, false);
  EXPECT_EQ(seen.devices[1].vram_total, 17095983104u);
  EXPECT_EQ(seen.devices[1].render_minor, 129);
}

TEST(DetectDrm, SeesAnInstinctAndPassesOverTheVirtualDisplay) {
  const Observation seen = drm_of("mi300");
  ASSERT_THAT(seen.devices, SizeIs(1));
  EXPECT_EQ(seen.devices[0].pci_address, "0000:83:00.0");
  EXPECT_EQ(seen.devices[0].name, "AMD Instinct MI300X");
  EXPECT_EQ(seen.devices[0].driver_version, "6.16.6");
  EXPECT_EQ(seen.devices[0].integrated, false);
  EXPECT_EQ(seen.devices[0].vram_total, 206141652992u);
  EXPECT_THAT(seen.notes, testing::ElementsAre(AllOf(HasSubstr("card0"), HasSubstr("0x1af4"),
                                                     HasSubstr("virtio-pci"))));
}

TEST(DetectDrm, LeavesAnAcceleratorOpenThatShowsNeitherFile) {
  FakeRoot root = FakeRoot::machine("mi300");
  root.remove("/sys/class/drm/card1/device/board_info");
  EXPECT_EQ(detect_drm(root.files()).devices.at(0).integrated, false);
  root.remove("/sys/class/drm/card1/device/mem_info_vram_vendor");
  EXPECT_EQ(detect_drm(root.files()).devices.at(0).integrated, std::nullopt);
}

TEST(DetectDrm, SeesNvidiaWithDriverVersionAndName) {
  const Observation seen = drm_of("nvidia");
  ASSERT_THAT(seen.devices, SizeIs(1));
  EXPECT_EQ(seen.devices[0].vendor, Vendor::kNvidia);
  EXPECT_EQ(seen.devices[0].pci_device_id, 0x2684u);
  EXPECT_EQ(seen.devices[0].driver, "nvidia");
  EXPECT_EQ(seen.devices[0].driver_version, "580.95.05");
  EXPECT_EQ(seen.devices[0].name, "NVIDIA GeForce RTX 4090");
  EXPECT_EQ(seen.devices[0].render_minor, 128);
  EXPECT_EQ(seen.devices[0].vram_total, std::nullopt);
}

TEST(DetectDrm, SeesNvidiaWithoutNvidiaDrmAndTakesItsVersionFromProc) {
  FakeRoot root = FakeRoot::machine("nvidia");
  root.remove("/sys/class/drm");
  root.remove("/sys/bus/pci/devices/0000:01:00.0/drm");
  root.remove("/sys/module/nvidia/version");
  const Observation seen = detect_drm(root.files());
  EXPECT_EQ(seen.outcome, Outcome::kFound);
  ASSERT_THAT(seen.devices, SizeIs(1));
  EXPECT_EQ(seen.devices[0].pci_address, "0000:01:00.0");
  EXPECT_EQ(seen.devices[0].driver, "nvidia");
  EXPECT_EQ(seen.devices[0].driver_version, "580.95.05");
  EXPECT_EQ(seen.devices[0].render_minor, std::nullopt);
  EXPECT_THAT(seen.notes, IsEmpty());
}

TEST(DetectDrm, SaysOfAGpuWithoutADriverThatItHasNone) {
  FakeRoot root;
  root.write("/sys/bus/pci/devices/0000:01:00.0/class", "0x030200\n");
  root.write("/sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n");
  root.write("/sys/bus/pci/devices/0000:01:00.0/device", "0x2684\n");
  const Observation seen = detect_drm(root.files());
  ASSERT_THAT(seen.devices, SizeIs(1));
  EXPECT_EQ(seen.devices[0].driver, std::nullopt);
  EXPECT_EQ(seen.devices[0].pci_device_id, 0x2684u);
  EXPECT_THAT(seen.notes, testing::ElementsAre("0000:01:00.0 (NVIDIA) has no driver."));
}

TEST(DetectDrm, TakesNoOtherPciDeviceForAGpu) {
  FakeRoot root;
  const auto add = [&](const std::string& address, const char* device_class, const char* vendor) {
    root.write("/sys/bus/pci/devices/" + address + "/class", device_class);
    root.write("/sys/bus/pci/devices/" + address + "/vendor", vendor);
  };
  add("0000:01:00.1", "0x040300\n", "0x10de\n");  // The sound of a GeForce.
  add("0000:02:00.0", "0x030000\n", "0x1a03\n");  // A server's management controller.
  add("0000:00:0b.0", "0x120000\n", "0x8086\n");  // Intel's NPU.
  EXPECT_EQ(detect_drm(root.files()).outcome, Outcome::kNoDevices);
  add("0000:03:00.0", "0x120000\n", "0x1002\n");  // An Instinct.
  EXPECT_THAT(detect_drm(root.files()).devices, SizeIs(1));
}

TEST(DetectDrm, TellsIntelsOwnGraphicsFromItsCards) {
  FakeRoot root;
  for (const char* address : {"0000:00:02.0", "0000:03:00.0"}) {
    const std::string path = std::string("/sys/bus/pci/devices/") + address;
    root.write(path + "/class", "0x030000\n");
    root.write(path + "/vendor", "0x8086\n");
    root.link(path + "/driver", "../../../bus/pci/drivers/xe");
  }
  const Observation seen = detect_drm(root.files());
  ASSERT_THAT(seen.devices, SizeIs(2));
  EXPECT_EQ(seen.devices[0].integrated, true);
  EXPECT_EQ(seen.devices[1].integrated, false);
  EXPECT_EQ(seen.devices[1].driver, "xe");
}

TEST(DetectDrm, SeesBothGpusOfALaptop) {
  const Observation seen = drm_of("laptop-igpu-dgpu");
  ASSERT_THAT(seen.devices, SizeIs(2));
  EXPECT_EQ(seen.devices[0].vendor, Vendor::kNvidia);
  EXPECT_EQ(seen.devices[1].vendor, Vendor::kAmd);
  EXPECT_EQ(seen.devices[1].integrated, true);
}

TEST(DetectDrm, FindsNothingWhereNothingIs) {
  EXPECT_EQ(drm_of("nothing").outcome, Outcome::kNoDevices);
  FakeRoot empty;
  const Observation seen = detect_drm(empty.files());
  EXPECT_EQ(seen.outcome, Outcome::kAbsent);
  EXPECT_NE(seen.detail, "");
}

TEST(DetectDrm, SkipsWhatIsMalformedWithANoteAndKeepsTheRest) {
  FakeRoot root = FakeRoot::machine("hostile");
  const std::string gpu_path = "/sys/devices/pci0000:00/0000:00:01.0/0000:03:00.0";
  ASSERT_EQ(::mkfifo(root.at(gpu_path + "/product_name").c_str(), 0600), 0);
  const Observation seen = detect_drm(root.files());
  ASSERT_THAT(seen.devices, SizeIs(2));
  const ObservedDevice& gpu = seen.devices[0];
  EXPECT_EQ(gpu.pci_address, "0000:03:00.0");
  EXPECT_EQ(gpu.vram_total, 25753026560u);
  EXPECT_EQ(gpu.vram_used, std::nullopt);
  EXPECT_EQ(gpu.gtt_total, std::nullopt);
  EXPECT_EQ(gpu.gtt_used, std::nullopt);
  EXPECT_EQ(gpu.name, std::nullopt);
  EXPECT_EQ(gpu.integrated, false);
  EXPECT_EQ(seen.devices[1].pci_address, "0000:0a:00.0");
  for (const char* part :
       {"card0/device/vendor can't be read", "card2/device/vendor holds no number",
        "card4 has no readable PCI address", "mem_info_gtt_total holds no number",
        "mem_info_vram_used is larger than", "mem_info_gtt_used holds no number",
        "product_name is no regular file", "0000:09:00.0/class can't be read"}) {
    EXPECT_THAT(seen.notes, Contains(HasSubstr(part)));
  }
}

TEST(DetectDrm, BoundsTheNotes) {
  FakeRoot root;
  for (int i = 0; i < 500; ++i) {
    root.write("/sys/class/drm/card" + std::to_string(i) + "/device/vendor", "banana");
  }
  EXPECT_THAT(detect_drm(root.files()).notes, SizeIs(testing::Le(100u)));
}

TEST(DetectDrm, ReadsAnyContentOfAnyFileWithoutACrash) {
  const std::vector<std::string> contents{"",
                                          "\n",
                                          "-1",
                                          std::string(70000, '9'),
                                          std::string("\0\xff\x80", 3),
                                          "0xffffffffffffffff",
                                          "PCI_SLOT_NAME=",
                                          "1125899906842625"};
  for (const char* file : {"vendor", "device", "class", "uevent", "mem_info_vram_total",
                           "mem_info_gtt_total", "mem_info_vram_vendor", "board_info"}) {
    FakeRoot root = FakeRoot::machine("strix-halo-512m");
    for (const std::string& content : contents) {
      root.write(std::string(kHalo) + "/" + file, content);
      const Observation seen = detect_drm(root.files());
      for (const ObservedDevice& device : seen.devices) {
        EXPECT_LE(device.vram_total.value_or(0), 1ull << 50);
        EXPECT_EQ(device.pci_address, "0000:c5:00.0");
      }
    }
  }
}

}  // namespace
}  // namespace yoke::hardware
