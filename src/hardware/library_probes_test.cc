// What each of the five probes reads out of its library, whatever the library's ABI.
#include "hardware/library_probes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hardware/probe_test_support.h"

namespace yoke::hardware {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

// The only device of a fake; a failed expectation and an empty one if it is not so.
ObservedDevice only_device(const Observation& observation) {
  EXPECT_EQ(observation.outcome, Outcome::kFound) << observation.detail;
  EXPECT_EQ(observation.devices.size(), 1u);
  return observation.devices.empty() ? ObservedDevice{} : observation.devices.front();
}

void expect_strix_halo(const ObservedDevice& device) {
  EXPECT_EQ(device.pci_address, "0000:c5:00.0");
  EXPECT_EQ(device.vendor, Vendor::kAmd);
  EXPECT_EQ(device.vram_total, kGiB / 2);
  EXPECT_EQ(device.vram_used, kGiB / 4);
  EXPECT_EQ(device.gtt_total, 120 * kGiB);
  EXPECT_EQ(device.gtt_used, 3 * kGiB);
}

TEST(AmdSmiProbe, ReadsBothKnownLayouts) {
  for (const char* const abi : {"old", "current"}) {
    const auto observation = probe_fake(Source::kAmdSmi, "ok", abi);
    EXPECT_EQ(observation.version, std::string_view(abi) == "old" ? "24.7.1" : "26.1.0");
    EXPECT_THAT(observation.notes, IsEmpty());
    const auto device = only_device(observation);
    expect_strix_halo(device);
    EXPECT_EQ(device.name, "AMD Radeon 8060S Graphics");
    EXPECT_EQ(device.gfx, "gfx1151");
    EXPECT_EQ(device.pci_device_id, 0x1586u);
    EXPECT_EQ(device.driver_version, "6.18.9-arch1-1");
  }
}

TEST(AmdSmiProbe, AsksAnUnknownVersionForNumbersOnly) {
  const auto observation = probe_fake(Source::kAmdSmi, "ok", "new");
  EXPECT_EQ(observation.version, "31.4.0");
  EXPECT_THAT(observation.notes,
              ElementsAre("AMD SMI 31.4.0 is not among the versions that Yoke knows (24 to 26): "
                          "only sizes and addresses were read."));
  const auto device = only_device(observation);
  expect_strix_halo(device);
  EXPECT_FALSE(device.name || device.gfx || device.pci_device_id || device.driver_version);
}

TEST(AmdSmiProbe, KnowsTheOtherSpellingOfAnMi200) {
  EXPECT_EQ(only_device(probe_fake(Source::kAmdSmi, "mi200")).gfx, "gfx90a");
}

TEST(AmdSmiProbe, NamesTheErrorInTheLibrarysWords) {
  const auto observation = probe_fake(Source::kAmdSmi, "error");
  EXPECT_THAT(observation.detail, HasSubstr("AMDSMI_STATUS_DRIVER_NOT_LOADED"));
  EXPECT_THAT(observation.detail, HasSubstr("(34)"));
}

TEST(AmdSmiProbe, LeavesOutWhatTheLibraryCannotTell) {
  const auto observation = probe_fake(Source::kAmdSmi, "garbage");
  const auto device = only_device(observation);
  EXPECT_FALSE(device.vram_total || device.vram_used || device.gtt_total || device.gtt_used);
  EXPECT_FALSE(device.gfx);
}

TEST(NvmlProbe, ReadsADevice) {
  for (const char* const abi : {"old", "current", "new"}) {
    const auto observation = probe_fake(Source::kNvml, "ok", abi);
    EXPECT_EQ(observation.version, "580.95.05");
    const auto device = only_device(observation);
    EXPECT_EQ(device.pci_address, "0000:01:00.0");
    EXPECT_EQ(device.vendor, Vendor::kNvidia);
    EXPECT_EQ(device.pci_device_id, 0x2684u);
    EXPECT_EQ(device.name, "NVIDIA GeForce RTX 4090");
    EXPECT_EQ(device.compute_capability, (ComputeCapability{8, 9}));
    EXPECT_EQ(device.driver, "nvidia");
    EXPECT_EQ(device.driver_version, "580.95.05");
    EXPECT_EQ(device.memory_total, 25'757'220'864u);
    EXPECT_EQ(device.memory_free, 25'000'000'000u);
    // A function that the oldest lacks.
    EXPECT_EQ(device.persistence,
              std::string_view(abi) == "old" ? std::nullopt : std::optional(true));
  }
}

TEST(NvmlProbe, AGb10HasNoMemoryOfItsOwn) {
  const auto observation = probe_fake(Source::kNvml, "gb10");
  const auto device = only_device(observation);
  EXPECT_EQ(device.name, "NVIDIA GB10");
  EXPECT_FALSE(device.memory_total || device.memory_free);
  EXPECT_THAT(observation.notes,
              ElementsAre("NVIDIA GB10 has no memory of its own that NVML could tell of."));
}

TEST(NvmlProbe, ALostGpuDoesNotHideTheOthers) {
  const auto observation = probe_fake(Source::kNvml, "lost");
  EXPECT_EQ(only_device(observation).name, "NVIDIA GeForce RTX 4090");
  EXPECT_THAT(observation.notes, ElementsAre("NVML can't reach device 0: Unknown Error (15)."));
}

TEST(NvmlProbe, NamesTheErrorInTheLibrarysWords) {
  EXPECT_EQ(probe_fake(Source::kNvml, "error").detail,
            "NVML did not start: Driver Not Loaded (9).");
}

TEST(HipProbe, ReadsBothLayouts) {
  for (const char* const abi : {"old", "current"}) {
    const auto observation = probe_fake(Source::kHip, "ok", abi);
    EXPECT_EQ(observation.version, std::string_view(abi) == "old" ? "5.7.31921" : "7.1.51831");
    EXPECT_THAT(observation.notes, IsEmpty());
    const auto device = only_device(observation);
    EXPECT_EQ(device.pci_address, "0000:c1:00.0");
    EXPECT_EQ(device.vendor, Vendor::kAmd);
    EXPECT_EQ(device.name, "AMD Instinct MI210");
    EXPECT_EQ(device.gfx, "gfx90a");
    EXPECT_EQ(device.integrated, false);
    EXPECT_EQ(device.memory_total, 64 * kGiB);
    EXPECT_EQ(device.memory_free, 63 * kGiB);
  }
}

TEST(HipProbe, AnUnknownLayoutIsSeenByWhatIsMissing) {
  const auto observation = probe_fake(Source::kHip, "ok", "new");
  EXPECT_THAT(observation.notes,
              ElementsAre("HIP 9.1.0 describes device 0 in a form that Yoke does not know."));
  const auto device = only_device(observation);
  EXPECT_EQ(device.pci_address, "0000:c1:00.0");
  EXPECT_EQ(device.memory_free, 63 * kGiB);
  EXPECT_FALSE(device.gfx || device.integrated);
}

TEST(HipProbe, ANegativeCountIsNoDevices) {
  EXPECT_EQ(probe_fake(Source::kHip, "negative").outcome, Outcome::kNoDevices);
}

TEST(CudaProbe, ReadsADevice) {
  for (const char* const abi : {"current", "new"}) {
    const auto observation = probe_fake(Source::kCuda, "ok", abi);
    EXPECT_EQ(observation.version, std::string_view(abi) == "new" ? "14.2" : "12.8");
    const auto device = only_device(observation);
    EXPECT_EQ(device.pci_address, "0000:64:00.0");
    EXPECT_EQ(device.vendor, Vendor::kNvidia);
    EXPECT_EQ(device.name, "NVIDIA GeForce RTX 4060 Laptop GPU");
    EXPECT_EQ(device.compute_capability, (ComputeCapability{8, 9}));
    EXPECT_EQ(device.integrated, false);
    EXPECT_EQ(device.memory_total, 8'585'216'000u);
    EXPECT_FALSE(device.memory_free);
  }
}

TEST(CudaProbe, AnOldDriverTellsTheAddressInParts) {
  const auto device = only_device(probe_fake(Source::kCuda, "ok", "old"));
  EXPECT_EQ(device.pci_address, "0000:64:00.0");
  EXPECT_EQ(device.compute_capability, (ComputeCapability{8, 9}));
  EXPECT_FALSE(device.memory_total);
}

TEST(CudaProbe, NamesTheErrorInTheLibrarysWords) {
  EXPECT_THAT(probe_fake(Source::kCuda, "error").detail,
              HasSubstr("system has unsupported display driver / cuda driver combination (803)"));
}

TEST(VulkanProbe, ReportsADeviceForEachDriverThatOffersIt) {
  const auto observation = probe_fake(Source::kVulkan, "ok");
  EXPECT_EQ(observation.version, "1.4.318");
  ASSERT_EQ(observation.devices.size(), 4u);
  const auto& radv = observation.devices[0];
  EXPECT_EQ(radv.pci_address, "0000:c5:00.0");
  EXPECT_EQ(radv.vendor, Vendor::kAmd);
  EXPECT_EQ(radv.pci_device_id, 0x1586u);
  EXPECT_EQ(radv.name, "AMD Radeon 8060S Graphics");
  EXPECT_EQ(radv.gfx, "gfx1151");
  EXPECT_EQ(radv.integrated, true);
  ASSERT_TRUE(radv.vulkan);
  EXPECT_EQ(radv.vulkan->driver, VulkanDriver::kRadv);
  EXPECT_EQ(radv.vulkan->driver_name, "radv");
  EXPECT_EQ(radv.vulkan->driver_info, "Mesa 25.2.1");
  EXPECT_EQ(radv.vulkan->api_version, "1.4.318");
  EXPECT_FALSE(radv.vulkan->software);

  const auto& amdvlk = observation.devices[1];
  EXPECT_EQ(amdvlk.pci_address, radv.pci_address);
  ASSERT_TRUE(amdvlk.vulkan);
  EXPECT_EQ(amdvlk.vulkan->driver, VulkanDriver::kAmdvlk);
  EXPECT_FALSE(amdvlk.gfx);
}

TEST(VulkanProbe, CountsHostMemoryOnlyWhereItIsTheGpus) {
  const auto observation = probe_fake(Source::kVulkan, "ok");
  ASSERT_EQ(observation.devices.size(), 4u);
  EXPECT_EQ(observation.devices[0].memory_total, 84 * kGiB);
  EXPECT_EQ(observation.devices[0].memory_free, 67 * kGiB);
  const auto& discrete = observation.devices[2];
  EXPECT_EQ(discrete.integrated, false);
  EXPECT_EQ(discrete.memory_total, 24 * kGiB);
  EXPECT_EQ(discrete.memory_free, 19 * kGiB);
}

TEST(VulkanProbe, SoftwareIsCalledSo) {
  const auto observation = probe_fake(Source::kVulkan, "ok");
  ASSERT_EQ(observation.devices.size(), 4u);
  const auto& lavapipe = observation.devices[3];
  EXPECT_FALSE(lavapipe.pci_address || lavapipe.pci_device_id || lavapipe.integrated);
  EXPECT_EQ(lavapipe.vendor, Vendor::kOther);
  ASSERT_TRUE(lavapipe.vulkan);
  EXPECT_EQ(lavapipe.vulkan->driver, VulkanDriver::kLavapipe);
  EXPECT_TRUE(lavapipe.vulkan->software);
  EXPECT_FALSE(lavapipe.memory_free);
}

TEST(VulkanProbe, ALoaderOfVulkan10TellsTheDriverToo) {
  const auto observation = probe_fake(Source::kVulkan, "ok", "old");
  EXPECT_EQ(observation.version, "1.0.0");
  ASSERT_EQ(observation.devices.size(), 4u);
  EXPECT_EQ(observation.devices[0].pci_address, "0000:c5:00.0");
  EXPECT_EQ(observation.devices[0].vulkan->driver, VulkanDriver::kRadv);
  EXPECT_EQ(observation.devices[0].memory_free, 67 * kGiB);
}

TEST(VulkanProbe, AnUnknownDriverIsOther) {
  const auto observation = probe_fake(Source::kVulkan, "ok", "new");
  ASSERT_EQ(observation.devices.size(), 4u);
  EXPECT_EQ(observation.devices[0].vulkan->driver, VulkanDriver::kOther);
  EXPECT_EQ(observation.devices[0].vulkan->driver_name, "radv");
  EXPECT_TRUE(observation.devices[3].vulkan->software);
}

TEST(VulkanProbe, NoDriverAndNoGpuAreNoFailures) {
  const auto no_driver = probe_fake(Source::kVulkan, "none");
  EXPECT_EQ(no_driver.outcome, Outcome::kNoDevices);
  EXPECT_EQ(no_driver.detail, "No Vulkan driver (ICD) is installed, or none that works here.");
  const auto no_gpu = probe_fake(Source::kVulkan, "empty");
  EXPECT_EQ(no_gpu.outcome, Outcome::kNoDevices);
  EXPECT_EQ(no_gpu.detail, "");
}

}  // namespace
}  // namespace yoke::hardware
