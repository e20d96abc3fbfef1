#include "hardware/beliefs.h"

#include <limits>

#include <gtest/gtest.h>

namespace yoke::hardware::beliefs {
namespace {

TEST(SameName, PassesOverVendorsAndDecoration) {
  EXPECT_TRUE(same_name("AMD Radeon 8060S Graphics", "Radeon 8060S Graphics (RADV GFX1151)"));
  EXPECT_TRUE(same_name("NVIDIA GeForce RTX 4090", "GeForce RTX 4090"));
  EXPECT_TRUE(same_name("AMD Radeon(TM) 780M", "amd radeon 780m"));
  EXPECT_TRUE(same_name("AMD Radeon Graphics", "AMD Radeon 8060S Graphics"));
  EXPECT_TRUE(same_name("Strix Halo [Radeon Graphics / Radeon 8060S]", "Radeon 8060S"));
}

TEST(SameName, TellsProductsApart) {
  EXPECT_FALSE(same_name("AMD Radeon RX 7900 XTX", "AMD Radeon RX 9070 XT"));
  EXPECT_FALSE(same_name("Radeon 8060S", "Radeon 8050S"));
}

TEST(GenericName, SaysNothingButTheVendor) {
  EXPECT_TRUE(is_generic_name("AMD Radeon Graphics"));
  EXPECT_TRUE(is_generic_name("AMD Radeon(TM) Graphics (RADV GFX1151)"));
  EXPECT_TRUE(is_generic_name(""));
  EXPECT_FALSE(is_generic_name("AMD Radeon 8060S Graphics"));
}

TEST(SameSize, AllowsOnePercent) {
  EXPECT_TRUE(same_size(1000, 990));
  EXPECT_TRUE(same_size(990, 1000));
  EXPECT_FALSE(same_size(1000, 989));
  EXPECT_FALSE(same_size(0, std::numeric_limits<std::uint64_t>::max()));
}

TEST(PlainGfx, HasNoFeatures) {
  EXPECT_EQ(plain_gfx("gfx90a:sramecc+:xnack-"), "gfx90a");
  EXPECT_EQ(plain_gfx("GFX1151"), "gfx1151");
}

TEST(PlainName, LosesVulkansDriver) {
  EXPECT_EQ(plain_name("AMD Radeon 8060S Graphics (RADV GFX1151)"), "AMD Radeon 8060S Graphics");
  EXPECT_EQ(plain_name("llvmpipe (LLVM 15.0.6, 256 bits)"), "llvmpipe (LLVM 15.0.6, 256 bits)");
  EXPECT_EQ(plain_name(" (RADV X)"), " (RADV X)");
}

}  // namespace
}  // namespace yoke::hardware::beliefs
