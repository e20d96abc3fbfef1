#include "hardware/observation.h"

#include <set>

#include <gtest/gtest.h>

namespace yoke::hardware {
namespace {

TEST(Observation, SourcesAreFoundByTheirNames) {
  for (const Source source : {Source::kAmdSmi, Source::kNvml, Source::kHip, Source::kCuda,
                              Source::kVulkan, Source::kKfd, Source::kDrm}) {
    EXPECT_FALSE(name_of(source).empty());
    EXPECT_EQ(source_of(name_of(source)), source);
  }
  EXPECT_EQ(name_of(Source::kAmdSmi), "amd-smi");
  EXPECT_EQ(source_of("torch"), std::nullopt);
  EXPECT_EQ(source_of(""), std::nullopt);
}

TEST(Observation, VendorsByTheirPciIds) {
  EXPECT_EQ(vendor_of_pci_id(0x1002), Vendor::kAmd);
  EXPECT_EQ(vendor_of_pci_id(0x10de), Vendor::kNvidia);
  EXPECT_EQ(vendor_of_pci_id(0x8086), Vendor::kIntel);
  EXPECT_EQ(vendor_of_pci_id(0x10005), Vendor::kOther);  // Mesa's, for what is no hardware.
  EXPECT_EQ(vendor_of_pci_id(0), Vendor::kOther);
  EXPECT_EQ(name_of(Vendor::kAmd), "AMD");
}

TEST(Observation, NamesTellThingsApart) {
  std::set<std::string_view> drivers;
  for (const auto driver :
       {VulkanDriver::kRadv, VulkanDriver::kAmdvlk, VulkanDriver::kAmdPro, VulkanDriver::kNvidia,
        VulkanDriver::kNvk, VulkanDriver::kAnv, VulkanDriver::kLavapipe, VulkanDriver::kOther}) {
    drivers.insert(name_of(driver));
  }
  EXPECT_EQ(drivers.size(), 8u);
  EXPECT_TRUE(drivers.contains("RADV"));
  std::set<std::string_view> outcomes;
  for (const auto outcome :
       {Outcome::kFound, Outcome::kNoDevices, Outcome::kAbsent, Outcome::kFailed}) {
    outcomes.insert(name_of(outcome));
  }
  EXPECT_EQ(outcomes.size(), 4u);
  EXPECT_TRUE(outcomes.contains("not installed"));
}

}  // namespace
}  // namespace yoke::hardware
