#include "hardware/architecture.h"

#include <gtest/gtest.h>

namespace yoke::hardware {
namespace {

TEST(ParseGfx, TakesDecimalMajorAndHexadecimalRest) {
  const auto mi200 = parse_gfx("gfx90a");
  ASSERT_TRUE(mi200);
  EXPECT_EQ(mi200->major, 9);
  EXPECT_EQ(mi200->minor, 0);
  EXPECT_EQ(mi200->stepping, 10);
  const auto strix_halo = parse_gfx("gfx1151");
  ASSERT_TRUE(strix_halo);
  EXPECT_EQ(strix_halo->major, 11);
  EXPECT_EQ(strix_halo->minor, 5);
  EXPECT_EQ(strix_halo->stepping, 1);
}

TEST(ParseGfx, PassesOverFeatures) {
  const auto version = parse_gfx("gfx942:sramecc+:xnack-");
  ASSERT_TRUE(version);
  EXPECT_EQ(version->minor, 4);
}

TEST(ParseGfx, RefusesWhatIsNoVersion) {
  for (const char* text : {"", "gfx", "gfx1", "gfx11", "gfx11511", "GFX1151", "gfx-151", "gfxabcd",
                           "gfx 100", "gfx1+51",
                           "gfx11\xff"
                           "1"}) {
    EXPECT_FALSE(parse_gfx(text)) << text;
  }
}

struct Named {
  const char* gfx;
  Architecture family;
  const char* name;
};

TEST(Architecture, OfAmdChips) {
  for (const Named& expected :
       {Named{"gfx1151", Architecture::kRdna, "RDNA 3.5"},
        Named{"gfx1150", Architecture::kRdna, "RDNA 3.5"},
        Named{"gfx1103", Architecture::kRdna, "RDNA 3"},
        Named{"gfx1100", Architecture::kRdna, "RDNA 3"},
        Named{"gfx1030", Architecture::kRdna, "RDNA 2"},
        Named{"gfx1012", Architecture::kRdna, "RDNA 1"},
        Named{"gfx1201", Architecture::kRdna, "RDNA 4"},
        Named{"gfx90a", Architecture::kCdna, "CDNA 2"},
        Named{"gfx908", Architecture::kCdna, "CDNA 1"},
        Named{"gfx942", Architecture::kCdna, "CDNA 3"},
        Named{"gfx950", Architecture::kCdna, "CDNA 4"},
        Named{"gfx90c", Architecture::kGcn, "GCN 5"}, Named{"gfx906", Architecture::kGcn, "GCN 5"},
        Named{"gfx803", Architecture::kGcn, "GCN 3 or 4"},
        Named{"gfx1250", Architecture::kUnknown, ""},
        Named{"something", Architecture::kUnknown, ""}}) {
    const ArchitectureInfo found = architecture_of_gfx(expected.gfx);
    EXPECT_EQ(found.family, expected.family) << expected.gfx;
    EXPECT_EQ(found.name, expected.name) << expected.gfx;
  }
}

TEST(Architecture, OfNvidiaChips) {
  const auto name = [](int major, int minor) {
    const ArchitectureInfo found = architecture_of_capability({major, minor});
    EXPECT_EQ(found.family, Architecture::kNvidia);
    return found.name;
  };
  EXPECT_EQ(name(5, 2), "Maxwell");
  EXPECT_EQ(name(6, 1), "Pascal");
  EXPECT_EQ(name(7, 0), "Volta");
  EXPECT_EQ(name(7, 5), "Turing");
  EXPECT_EQ(name(8, 6), "Ampere");
  EXPECT_EQ(name(8, 9), "Ada Lovelace");
  EXPECT_EQ(name(9, 0), "Hopper");
  EXPECT_EQ(name(12, 1), "Blackwell");
  EXPECT_EQ(name(99, 0), "");
}

TEST(Names, OfArchitecturesAndBackends) {
  EXPECT_EQ(name_of(Architecture::kCdna), "CDNA");
  EXPECT_EQ(name_of(Architecture::kUnknown), "unknown");
  EXPECT_EQ(name_of(Backend::kVulkan), "vulkan");
  EXPECT_EQ(name_of(Backend::kRocm), "rocm");
  EXPECT_EQ(name_of(Backend::kCuda), "cuda");
  EXPECT_EQ(name_of(Backend::kCpu), "cpu");
}

}  // namespace
}  // namespace yoke::hardware
