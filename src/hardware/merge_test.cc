#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hardware/detect.h"

namespace yoke::hardware {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr std::uint64_t kGiB = 1ull << 30;

Observation observation(Source source, std::vector<ObservedDevice> devices) {
  Observation made;
  made.source = source;
  made.outcome = devices.empty() ? Outcome::kNoDevices : Outcome::kFound;
  made.devices = std::move(devices);
  return made;
}

ObservedDevice amd(std::optional<std::string> address = "0000:c5:00.0") {
  ObservedDevice device;
  device.pci_address = std::move(address);
  device.vendor = Vendor::kAmd;
  return device;
}

ObservedDevice lavapipe() {
  ObservedDevice device;
  device.vendor = Vendor::kOther;
  device.name = "llvmpipe (LLVM 15.0.6, 256 bits)";
  device.vulkan = VulkanFacts{VulkanDriver::kLavapipe, "llvmpipe", "Mesa 22.3.6", "1.3.230", true};
  return device;
}

Host strix_halo() {
  Host host;
  host.memory.total = 125 * kGiB;
  host.memory.available = 118 * kGiB;
  return host;
}

std::vector<Device> merge(const std::vector<Observation>& observations) {
  return merge_devices(observations, strix_halo());
}

TEST(Merge, JoinsByPciAddress) {
  ObservedDevice smi = amd("0000:C5:00.0");
  smi.name = "AMD Radeon 8060S Graphics";
  ObservedDevice drm = amd();
  drm.driver = "amdgpu";
  drm.render_minor = 128;
  drm.pci_device_id = 0x1586;
  const auto devices =
      merge({observation(Source::kAmdSmi, {smi}), observation(Source::kDrm, {drm})});
  ASSERT_THAT(devices, SizeIs(1));
  const Device& device = devices[0];
  EXPECT_EQ(device.id, "0000:c5:00.0");
  EXPECT_EQ(device.name.value, "AMD Radeon 8060S Graphics");
  EXPECT_EQ(device.name.source, Source::kAmdSmi);
  ASSERT_TRUE(device.driver);
  EXPECT_EQ(device.driver->value, "amdgpu");
  EXPECT_EQ(device.driver->source, Source::kDrm);
  EXPECT_EQ(device.render_minor, 128);
  EXPECT_EQ(device.pci_device_id, 0x1586u);
  EXPECT_THAT(device.seen_by, ElementsAre(Source::kAmdSmi, Source::kDrm));
}

TEST(Merge, KeepsDifferentAddressesApartAndSorted) {
  const auto devices = merge({observation(Source::kHip, {amd("0000:0b:00.0"), amd("0000:03:00.0")}),
                              observation(Source::kDrm, {amd("0000:03:00.0")})});
  ASSERT_THAT(devices, SizeIs(2));
  EXPECT_EQ(devices[0].id, "0000:03:00.0");
  EXPECT_THAT(devices[0].seen_by, ElementsAre(Source::kHip, Source::kDrm));
  EXPECT_EQ(devices[1].id, "0000:0b:00.0");
}

TEST(Merge, FindsADeviceWithoutAddressByItsGfx) {
  ObservedDevice kfd = amd();
  kfd.gfx = "gfx1151";
  ObservedDevice hip = amd(std::nullopt);
  hip.gfx = "gfx1151:xnack-";
  hip.name = "Radeon 8060S";
  const auto devices = merge({observation(Source::kHip, {hip}), observation(Source::kKfd, {kfd})});
  ASSERT_THAT(devices, SizeIs(1));
  EXPECT_EQ(devices[0].id, "0000:c5:00.0");
  EXPECT_EQ(devices[0].name.value, "Radeon 8060S");
  EXPECT_EQ(devices[0].gfx->value, "gfx1151");
  EXPECT_EQ(devices[0].gfx->source, Source::kHip);
  EXPECT_THAT(devices[0].gfx->disagreeing, IsEmpty());
}

TEST(Merge, FindsADeviceWithoutAddressByItsName) {
  ObservedDevice smi = amd();
  smi.name = "AMD Radeon RX 7900 XTX";
  ObservedDevice vulkan = amd(std::nullopt);
  vulkan.name = "Radeon RX 7900 XTX";
  EXPECT_THAT(merge({observation(Source::kAmdSmi, {smi}), observation(Source::kVulkan, {vulkan})}),
              SizeIs(1));
}

TEST(Merge, DoesNotJoinByAGenericName) {
  ObservedDevice smi = amd();
  smi.name = "AMD Radeon Graphics";
  ObservedDevice vulkan = amd(std::nullopt);
  vulkan.name = "AMD Radeon Graphics";
  EXPECT_THAT(merge({observation(Source::kAmdSmi, {smi}), observation(Source::kVulkan, {vulkan})}),
              SizeIs(2));
}

TEST(Merge, ListsAnAmbiguousDeviceAsItsOwn) {
  ObservedDevice first = amd("0000:03:00.0");
  first.gfx = "gfx1100";
  ObservedDevice second = amd("0000:04:00.0");
  second.gfx = "gfx1100";
  ObservedDevice hip = amd(std::nullopt);
  hip.gfx = "gfx1100";
  const auto devices =
      merge({observation(Source::kHip, {hip}), observation(Source::kKfd, {first, second})});
  ASSERT_THAT(devices, SizeIs(3));
  EXPECT_EQ(devices[2].id, "hip:0");
  EXPECT_THAT(devices[0].seen_by, ElementsAre(Source::kKfd));
}

TEST(Merge, DoesNotJoinTwoOfADetectorWithOne) {
  ObservedDevice kfd = amd();
  kfd.gfx = "gfx1100";
  ObservedDevice hip = amd(std::nullopt);
  hip.gfx = "gfx1100";
  const auto devices =
      merge({observation(Source::kHip, {hip, hip}), observation(Source::kKfd, {kfd})});
  ASSERT_THAT(devices, SizeIs(3));
  EXPECT_EQ(devices[1].id, "hip:0");
  EXPECT_EQ(devices[2].id, "hip:1");
}

TEST(Merge, DoesNotJoinOtherVendors) {
  ObservedDevice drm = amd();
  drm.name = "Thing 5";
  ObservedDevice vulkan;
  vulkan.vendor = Vendor::kNvidia;
  vulkan.name = "Thing 5";
  EXPECT_THAT(merge({observation(Source::kVulkan, {vulkan}), observation(Source::kDrm, {drm})}),
              SizeIs(2));
}

TEST(Merge, PutsSoftwareLastAndNeverJoinsIt) {
  ObservedDevice drm = amd();
  drm.name = "llvmpipe (LLVM 15.0.6, 256 bits)";
  const auto devices =
      merge({observation(Source::kVulkan, {lavapipe()}), observation(Source::kDrm, {drm})});
  ASSERT_THAT(devices, SizeIs(2));
  EXPECT_EQ(devices[0].id, "0000:c5:00.0");
  EXPECT_FALSE(devices[0].software);
  EXPECT_EQ(devices[1].id, "vulkan:0");
  EXPECT_TRUE(devices[1].software);
  EXPECT_EQ(devices[1].memory.total, 125 * kGiB);
  EXPECT_EQ(devices[1].architecture, Architecture::kUnknown);
}

TEST(Merge, KeepsBothVulkanDriversOfADevice) {
  ObservedDevice radv = amd();
  radv.vulkan = VulkanFacts{.driver = VulkanDriver::kRadv,
                            .driver_name = "radv",
                            .driver_info = "Mesa 25.2.1",
                            .api_version = "1.4.318"};
  ObservedDevice amdvlk = amd();
  amdvlk.vulkan = VulkanFacts{.driver = VulkanDriver::kAmdvlk,
                              .driver_name = "AMD",
                              .driver_info = "2025.Q2.1",
                              .api_version = "1.4.308"};
  const auto devices = merge({observation(Source::kVulkan, {radv, amdvlk})});
  ASSERT_THAT(devices, SizeIs(1));
  ASSERT_THAT(devices[0].vulkan_drivers, SizeIs(2));
  EXPECT_EQ(devices[0].vulkan_drivers[0].driver, VulkanDriver::kRadv);
  EXPECT_EQ(devices[0].vulkan_drivers[1].driver, VulkanDriver::kAmdvlk);
  EXPECT_THAT(devices[0].seen_by, ElementsAre(Source::kVulkan));
}

TEST(Merge, ShowsWhoDisagreesAboutMemory) {
  ObservedDevice drm = amd();
  drm.vram_total = 24 * kGiB;
  drm.integrated = false;
  ObservedDevice smi = amd();
  smi.vram_total = 16 * kGiB;
  ObservedDevice hip = amd();
  hip.vram_total = 24 * kGiB - kGiB / 8;  // Within 1 %.
  const auto devices = merge({observation(Source::kAmdSmi, {smi}), observation(Source::kHip, {hip}),
                              observation(Source::kDrm, {drm})});
  ASSERT_THAT(devices, SizeIs(1));
  const auto& vram = devices[0].memory_facts.vram_total;
  ASSERT_TRUE(vram);
  EXPECT_EQ(vram->value, 24 * kGiB);
  EXPECT_EQ(vram->source, Source::kDrm);
  ASSERT_THAT(vram->disagreeing, SizeIs(1));
  EXPECT_EQ(vram->disagreeing[0].source, Source::kAmdSmi);
  EXPECT_EQ(vram->disagreeing[0].value, 16 * kGiB);
  EXPECT_EQ(devices[0].memory.total, 24 * kGiB);
}

TEST(Merge, PrefersHipsGfxToTheKernels) {
  ObservedDevice hip = amd();
  hip.gfx = "gfx1151";
  ObservedDevice kfd = amd();
  kfd.gfx = "gfx1100";
  const auto devices = merge({observation(Source::kHip, {hip}), observation(Source::kKfd, {kfd})});
  ASSERT_THAT(devices, SizeIs(1));
  EXPECT_EQ(devices[0].gfx->value, "gfx1151");
  ASSERT_THAT(devices[0].gfx->disagreeing, SizeIs(1));
  EXPECT_EQ(devices[0].gfx->disagreeing[0].source, Source::kKfd);
  EXPECT_EQ(devices[0].gfx->disagreeing[0].value, "gfx1100");
  EXPECT_EQ(devices[0].architecture_name, "RDNA 3.5");
}

// Linux 6.19 says gfx1100, and HIP after it; RADV reads the chip's own tables.
TEST(Merge, DoesNotBelieveInAnIntegratedGfx1100) {
  ObservedDevice hip = amd();
  hip.gfx = "gfx1100";
  ObservedDevice vulkan = amd();
  vulkan.gfx = "gfx1151";
  vulkan.integrated = true;
  ObservedDevice kfd = amd();
  kfd.gfx = "gfx1100";
  const auto devices =
      merge({observation(Source::kHip, {hip}), observation(Source::kVulkan, {vulkan}),
             observation(Source::kKfd, {kfd})});
  ASSERT_THAT(devices, SizeIs(1));
  EXPECT_EQ(devices[0].gfx->value, "gfx1151");
  EXPECT_EQ(devices[0].gfx->source, Source::kVulkan);
  ASSERT_THAT(devices[0].gfx->disagreeing, SizeIs(2));
  EXPECT_EQ(devices[0].gfx->disagreeing[0].source, Source::kHip);
  EXPECT_EQ(devices[0].gfx->disagreeing[1].source, Source::kKfd);
}

TEST(Merge, TakesATellingNameBeforeAGenericOne) {
  ObservedDevice hip = amd();
  hip.name = "AMD Radeon Graphics";
  ObservedDevice vulkan = amd();
  vulkan.name = "AMD Radeon 8060S Graphics (RADV GFX1151)";
  const auto devices =
      merge({observation(Source::kHip, {hip}), observation(Source::kVulkan, {vulkan})});
  ASSERT_THAT(devices, SizeIs(1));
  EXPECT_EQ(devices[0].name.value, "AMD Radeon 8060S Graphics");
  EXPECT_EQ(devices[0].name.source, Source::kVulkan);
  EXPECT_THAT(devices[0].name.disagreeing, IsEmpty());
}

TEST(Merge, ShowsNamesThatReallyDiffer) {
  ObservedDevice smi = amd();
  smi.name = "AMD Radeon RX 7900 XTX";
  ObservedDevice vulkan = amd();
  vulkan.name = "AMD Radeon RX 7900 GRE";
  const auto devices =
      merge({observation(Source::kAmdSmi, {smi}), observation(Source::kVulkan, {vulkan})});
  ASSERT_THAT(devices[0].name.disagreeing, SizeIs(1));
  EXPECT_EQ(devices[0].name.disagreeing[0].value, "AMD Radeon RX 7900 GRE");
}

TEST(Merge, NamesANamelessDevice) {
  ObservedDevice drm = amd();
  drm.pci_device_id = 0x1586;
  EXPECT_EQ(merge({observation(Source::kDrm, {drm})})[0].name.value, "AMD GPU 0x1586");
}

// NVML's library and the kernel's module after an update without a reboot.
TEST(Merge, ShowsDriverVersionsThatDiffer) {
  ObservedDevice nvml;
  nvml.pci_address = "00000000:01:00.0";
  nvml.vendor = Vendor::kNvidia;
  nvml.compute_capability = ComputeCapability{8, 9};
  nvml.driver_version = "580.95.05";
  nvml.memory_total = 24 * kGiB;
  nvml.memory_free = 20 * kGiB;
  ObservedDevice drm = nvml;
  drm.pci_address = "0000:01:00.0";
  drm.driver_version = "570.133.20";
  drm.compute_capability.reset();
  const auto devices =
      merge({observation(Source::kNvml, {nvml}), observation(Source::kDrm, {drm})});
  ASSERT_THAT(devices, SizeIs(1));
  EXPECT_EQ(devices[0].id, "0000:01:00.0");
  EXPECT_EQ(devices[0].driver_version->value, "580.95.05");
  ASSERT_THAT(devices[0].driver_version->disagreeing, SizeIs(1));
  EXPECT_EQ(devices[0].architecture_name, "Ada Lovelace");
  EXPECT_EQ(devices[0].memory.free, 20 * kGiB);
}

TEST(Merge, OfNothingIsNothing) { EXPECT_THAT(merge({}), IsEmpty()); }

}  // namespace
}  // namespace yoke::hardware
