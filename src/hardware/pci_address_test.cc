#include "hardware/pci_address.h"

#include <gtest/gtest.h>

namespace yoke::hardware {
namespace {

TEST(PciAddress, IsTheKernelsForm) {
  EXPECT_EQ(pci_address(0, 0xc5, 0, 0), "0000:c5:00.0");
  EXPECT_EQ(pci_address(0x1a, 0xff, 0x1f, 7), "001a:ff:1f.7");
  EXPECT_EQ(pci_address(0x10000, 1, 0, 0), "10000:01:00.0");  // Behind Intel's VMD.
}

TEST(PciAddress, NumbersThatDoNotFitAreNone) {
  EXPECT_EQ(pci_address(0, 0x100, 0, 0), std::nullopt);
  EXPECT_EQ(pci_address(0, 0, 0x20, 0), std::nullopt);
  EXPECT_EQ(pci_address(0, 0, 0, 8), std::nullopt);
  EXPECT_EQ(pci_address(0x1'0000'0000, 0, 0, 0), std::nullopt);
}

TEST(PciAddress, OtherFormsAreNormalised) {
  EXPECT_EQ(parse_pci_address("0000:c5:00.0"), "0000:c5:00.0");
  EXPECT_EQ(parse_pci_address("00000000:C1:0A.1"), "0000:c1:0a.1");
  EXPECT_EQ(parse_pci_address("0000:C1:00"), "0000:c1:00.0");
}

TEST(PciAddress, RubbishIsNone) {
  for (const char* const text :
       {"", ":", "::.", "0000:c1", "0000:zz:00.0", "0000:c1:00.9", "c1:00.0", "0000:c1:00.0.0",
        "-1:c1:00.0", "0000:c1:00.0 ", "123456789:c1:00.0", "0000:1c1:00.0",
        "99999999999999999999:0:0.0"}) {
    EXPECT_EQ(parse_pci_address(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace yoke::hardware
