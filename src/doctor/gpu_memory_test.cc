#include "doctor/gpu_memory.h"

#include <gtest/gtest.h>

namespace yoke::doctor {
namespace {

hardware::Machine machine_with(std::uint64_t ram, std::uint64_t carve_out = 512u << 20) {
  hardware::Machine machine;
  machine.host.memory.total = ram;
  hardware::Device apu;
  apu.vendor = hardware::Vendor::kAmd;
  apu.integrated = hardware::Fact<bool>{true, hardware::Source::kDrm};
  apu.memory.carve_out = carve_out;
  machine.devices.push_back(apu);
  return machine;
}

TEST(PagesFor, CountsPagesOf4KiB) {
  EXPECT_EQ(pages_for(96 * kGib, machine_with(125 * kGib)).value(), 25'165'824u);
  EXPECT_EQ(pages_for(120 * kGib, machine_with(125 * kGib)).value(), 31'457'280u);
}

TEST(PagesFor, KeepsTheReserve) {
  const auto machine = machine_with(125 * kGib);
  EXPECT_TRUE(pages_for(121 * kGib, machine));
  const auto refused = pages_for(124 * kGib, machine);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, kGpuMemoryRefused);
  EXPECT_EQ(refused.error().message,
            "124 GiB for the GPU would leave the system 1 GiB of its 125 GiB; it needs 4 GiB.");
  EXPECT_EQ(refused.error().hint, "At most 121 GiB are possible.");
  // A 32nd of a large machine.
  EXPECT_TRUE(pages_for(496 * kGib, machine_with(512 * kGib)));
  EXPECT_FALSE(pages_for(497 * kGib, machine_with(512 * kGib)));
}

TEST(PagesFor, NamesTheCarveOutThatIsInTheWay) {
  const auto refused = pages_for(120 * kGib, machine_with(31 * kGib, 96 * kGib));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("more than the 31 GiB"), std::string::npos);
  EXPECT_NE(refused.error().hint.find("set 96 GiB more aside"), std::string::npos);
}

TEST(PagesFor, RefusesWhatMakesNoSense) {
  EXPECT_FALSE(pages_for(kGib - 1, machine_with(125 * kGib)));
  EXPECT_FALSE(pages_for(UINT64_MAX, machine_with(125 * kGib)));
  EXPECT_FALSE(pages_for(2 * kGib, machine_with(0)));
  EXPECT_FALSE(pages_for(2 * kGib, machine_with(3 * kGib)));
}

TEST(PagesFor, NeedsAnApu) {
  auto machine = machine_with(125 * kGib);
  machine.devices[0].integrated->value = false;
  EXPECT_FALSE(pages_for(96 * kGib, machine));
  machine.devices[0].integrated->value = true;
  machine.devices[0].vendor = hardware::Vendor::kIntel;
  EXPECT_FALSE(pages_for(96 * kGib, machine));
}

TEST(RecommendedGpuMemory, LeavesTwiceTheReserve) {
  EXPECT_EQ(recommended_gpu_memory(125 * kGib + 7), 117 * kGib);
  EXPECT_EQ(recommended_gpu_memory(8 * kGib), 4 * kGib);
  EXPECT_EQ(recommended_gpu_memory(0), 0u);
}

TEST(MeantByCommonMistake, KnowsTheFormula) {
  EXPECT_EQ(meant_by_common_mistake(27'648'000), 108u);
  EXPECT_EQ(meant_by_common_mistake(30'720'000), 120u);
  EXPECT_FALSE(meant_by_common_mistake(31'457'280));  // Right: 120 GiB.
  EXPECT_FALSE(meant_by_common_mistake(8'220'668));   // A default.
  EXPECT_FALSE(meant_by_common_mistake(0));
}

}  // namespace
}  // namespace yoke::doctor
