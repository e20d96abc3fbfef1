#include "hardware/memory_budget.h"

#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yoke::hardware {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

constexpr std::uint64_t kMiB = 1ull << 20;
constexpr std::uint64_t kGiB = 1ull << 30;

HostMemory host(std::uint64_t total, std::uint64_t available) {
  return {.total = total, .available = available, .swap_total = 0, .swap_free = 0, .limit = {}};
}

std::optional<Fact<std::uint64_t>> by_drm(std::uint64_t bytes) {
  return Fact<std::uint64_t>{bytes, Source::kDrm, {}};
}

Device amd_apu(std::uint64_t carve_out, std::uint64_t gtt) {
  Device device;
  device.vendor = Vendor::kAmd;
  device.integrated = Fact<bool>{true, Source::kDrm, {}};
  device.memory_facts.vram_total = by_drm(carve_out);
  device.memory_facts.gtt_total = by_drm(gtt);
  return device;
}

Device amd_card(std::uint64_t vram, std::uint64_t gtt) {
  Device device = amd_apu(vram, gtt);
  device.integrated->value = false;
  return device;
}

Device nvidia() {
  Device device;
  device.vendor = Vendor::kNvidia;
  device.seen_by = {Source::kNvml};
  return device;
}

TEST(MemoryBudgetOfApu, AddsCarveOutAndGtt) {
  const MemoryBudget budget =
      memory_budget(amd_apu(512 * kMiB, 120 * kGiB), host(125 * kGiB, 110 * kGiB));
  EXPECT_TRUE(budget.unified);
  EXPECT_EQ(budget.total, 120 * kGiB + 512 * kMiB);
  EXPECT_EQ(budget.free, 110 * kGiB + 512 * kMiB);  // The system has no more to give.
  EXPECT_EQ(budget.vulkan_total, 120 * kGiB + 512 * kMiB);
  EXPECT_EQ(budget.rocm_total, 120 * kGiB);
  EXPECT_EQ(budget.carve_out, 512 * kMiB);
  EXPECT_EQ(budget.gtt, 120 * kGiB);
  EXPECT_THAT(budget.notes, IsEmpty());
}

TEST(MemoryBudgetOfApu, TakesWhatIsUsedOff) {
  Device device = amd_apu(4 * kGiB, 60 * kGiB);
  device.memory_facts.vram_used = by_drm(1 * kGiB);
  device.memory_facts.gtt_used = by_drm(20 * kGiB);
  EXPECT_EQ(memory_budget(device, host(124 * kGiB, 100 * kGiB)).free, 3 * kGiB + 40 * kGiB);
}

// The kernel's count misses hipMalloc on some versions: MemAvailable doesn't.
TEST(MemoryBudgetOfApu, BelievesTheSystemWhereGttSeemsUnused) {
  Device device = amd_apu(512 * kMiB, 120 * kGiB);
  device.memory_facts.gtt_used = by_drm(0);
  EXPECT_EQ(memory_budget(device, host(125 * kGiB, 9 * kGiB)).free, 9 * kGiB + 512 * kMiB);
}

TEST(MemoryBudgetOfApu, ClampsGttToTheHost) {
  const MemoryBudget budget =
      memory_budget(amd_apu(96 * kGiB, 105 * kGiB), host(31 * kGiB, 27 * kGiB));
  EXPECT_EQ(budget.total, 127 * kGiB);
  EXPECT_EQ(budget.free, 123 * kGiB);
  EXPECT_EQ(budget.vulkan_total, 127 * kGiB);
  // KFD goes by the configured sizes: GTT it is, although the host can't fill it.
  EXPECT_EQ(budget.rocm_total, 31 * kGiB);
  EXPECT_THAT(budget.notes,
              ElementsAre(HasSubstr("has only 31 GiB to fill"), HasSubstr("31 GiB at most")));
}

TEST(MemoryBudgetOfApu, GivesRocmTheCarveOutWhereItIsLarger) {
  const MemoryBudget budget =
      memory_budget(amd_apu(64 * kGiB, 31 * kGiB), host(62 * kGiB, 50 * kGiB));
  EXPECT_EQ(budget.rocm_total, 64 * kGiB);
  EXPECT_EQ(budget.vulkan_total, 95 * kGiB);
}

TEST(MemoryBudgetOfApu, IsLimitedByTheContainer) {
  HostMemory memory = host(125 * kGiB, 30 * kGiB);
  memory.limit = 32 * kGiB;
  const MemoryBudget budget = memory_budget(amd_apu(512 * kMiB, 120 * kGiB), memory);
  EXPECT_EQ(budget.total, 32 * kGiB + 512 * kMiB);
  EXPECT_EQ(budget.free, 30 * kGiB + 512 * kMiB);
  EXPECT_THAT(budget.notes,
              ElementsAre(HasSubstr("container's memory limit leaves 32 GiB of GTT")));
}

TEST(MemoryBudgetOfApu, ShowsWhatARuntimeSaysOtherwise) {
  Device device = amd_apu(512 * kMiB, 120 * kGiB);
  device.memory_facts.runtimes = {{Source::kHip, 15 * kGiB, {}},
                                  {Source::kVulkan, 121 * kGiB, {}},
                                  {Source::kVulkan, 80 * kGiB, {}},
                                  {Source::kVulkan, 80 * kGiB, {}}};
  EXPECT_THAT(memory_budget(device, host(125 * kGiB, 110 * kGiB)).notes,
              ElementsAre("HIP reports 15 GiB, where 120 GiB follow from the kernel's numbers.",
                          StartsWith("Vulkan reports 80 GiB, where 120.5 GiB follow")));
}

TEST(MemoryBudgetOfApu, SurvivesNumbersThatCanNotBe) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  Device device = amd_apu(kMost, kMost);
  device.memory_facts.vram_used = by_drm(kMost);
  device.memory_facts.gtt_used = by_drm(kMost);
  const MemoryBudget budget = memory_budget(device, host(31 * kGiB, 30 * kGiB));
  EXPECT_EQ(budget.total, kMost);
  EXPECT_EQ(budget.free, 0u);
}

TEST(MemoryBudgetOfApu, DoesNotClampToAHostOfUnknownSize) {
  const MemoryBudget budget = memory_budget(amd_apu(512 * kMiB, 8 * kGiB), host(0, 0));
  EXPECT_EQ(budget.total, 8 * kGiB + 512 * kMiB);
  EXPECT_EQ(budget.free, 8 * kGiB + 512 * kMiB);
}

TEST(MemoryBudgetOfCard, IsItsVramAlone) {
  Device device = amd_card(24 * kGiB, 31 * kGiB);
  device.memory_facts.vram_used = by_drm(2 * kGiB);
  const MemoryBudget budget = memory_budget(device, host(64 * kGiB, 60 * kGiB));
  EXPECT_FALSE(budget.unified);
  EXPECT_EQ(budget.total, 24 * kGiB);
  EXPECT_EQ(budget.free, 22 * kGiB);
  EXPECT_EQ(budget.vulkan_total, 24 * kGiB);
  EXPECT_EQ(budget.rocm_total, 24 * kGiB);
}

TEST(MemoryBudgetOfCard, TakesTheMostBelievedRuntimeOfNvidia) {
  Device device = nvidia();
  device.memory_facts.runtimes = {{Source::kNvml, 24564 * kMiB, 20000 * kMiB},
                                  {Source::kCuda, 24210 * kMiB, 1 * kMiB}};
  const MemoryBudget budget = memory_budget(device, host(64 * kGiB, 60 * kGiB));
  EXPECT_FALSE(budget.unified);
  EXPECT_EQ(budget.total, 24564 * kMiB);
  EXPECT_EQ(budget.free, 20000 * kMiB);
  EXPECT_EQ(budget.rocm_total, 0u);
  EXPECT_THAT(budget.notes, IsEmpty());  // 1.4 % are the driver's own.
}

TEST(MemoryBudgetOfCard, ShowsWhatARuntimeSaysOtherwise) {
  Device device = amd_card(24 * kGiB, 31 * kGiB);
  device.memory_facts.runtimes = {{Source::kHip, 16 * kGiB, {}}};
  EXPECT_THAT(memory_budget(device, host(64 * kGiB, 60 * kGiB)).notes,
              ElementsAre("hip reports 16 GiB."));
}

TEST(MemoryBudgetOfCard, IsNothingWhereNobodyKnows) {
  Device device;
  device.vendor = Vendor::kNvidia;
  device.seen_by = {Source::kDrm};
  const MemoryBudget budget = memory_budget(device, host(64 * kGiB, 60 * kGiB));
  EXPECT_EQ(budget.total, 0u);
  EXPECT_THAT(budget.notes, ElementsAre(HasSubstr("No detector")));
}

// GB10 and Jetson: NVML answers NVML_ERROR_NOT_SUPPORTED.
TEST(MemoryBudgetOfNvidia, IsTheHostsWhereNvmlKnowsNone) {
  const MemoryBudget budget = memory_budget(nvidia(), host(119 * kGiB, 100 * kGiB));
  EXPECT_TRUE(budget.unified);
  EXPECT_EQ(budget.total, 119 * kGiB);
  EXPECT_EQ(budget.free, 100 * kGiB);
  EXPECT_EQ(budget.rocm_total, 0u);
}

TEST(MemoryBudgetOfNvidia, IsTheHostsOnAnIntegratedGpu) {
  Device device = nvidia();
  device.integrated = Fact<bool>{true, Source::kCuda, {}};
  device.memory_facts.runtimes = {{Source::kCuda, 200 * kGiB, {}}};
  HostMemory memory = host(119 * kGiB, 100 * kGiB);
  memory.limit = 64 * kGiB;
  EXPECT_EQ(memory_budget(device, memory).total, 64 * kGiB);
  EXPECT_EQ(memory_budget(device, memory).free, 64 * kGiB);
}

TEST(MemoryBudgetOfSoftware, IsTheHosts) {
  Device device;
  device.software = true;
  const MemoryBudget budget = memory_budget(device, host(16 * kGiB, 10 * kGiB));
  EXPECT_TRUE(budget.unified);
  EXPECT_EQ(budget.total, 16 * kGiB);
  EXPECT_EQ(budget.free, 10 * kGiB);
}

}  // namespace
}  // namespace yoke::hardware
