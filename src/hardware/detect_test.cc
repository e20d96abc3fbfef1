#include "hardware/detect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hardware/test_support.h"

namespace yoke::hardware {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

constexpr std::uint64_t kMiB = 1ull << 20;
constexpr std::uint64_t kGiB = 1ull << 30;

Machine detect_machine(std::string_view name) {
  const FakeRoot root = FakeRoot::machine(name);
  return detect({.files = root.files()});
}

const BackendVerdict* verdict(const Device& device, Backend backend) {
  for (const BackendVerdict& each : device.backends) {
    if (each.backend == backend) return &each;
  }
  return nullptr;
}

void expect_verdict(const Device& device, Backend backend, bool usable,
                    const testing::Matcher<const std::string&>& reason) {
  const BackendVerdict* const found = verdict(device, backend);
  ASSERT_NE(found, nullptr) << name_of(backend);
  EXPECT_EQ(found->usable, usable) << found->reason;
  EXPECT_THAT(found->reason, reason);
}

TEST(Detect, StrixHaloAsItShouldBe) {
  const Machine machine = detect_machine("strix-halo-512m");
  ASSERT_THAT(machine.devices, SizeIs(1));
  const Device& device = machine.devices[0];
  EXPECT_EQ(device.id, "0000:c5:00.0");
  EXPECT_EQ(device.vendor, Vendor::kAmd);
  EXPECT_EQ(device.gfx->value, "gfx1151");
  EXPECT_EQ(device.architecture, Architecture::kRdna);
  EXPECT_EQ(device.architecture_name, "RDNA 3.5");
  ASSERT_TRUE(device.integrated);
  EXPECT_TRUE(device.integrated->value);
  EXPECT_TRUE(device.memory.unified);
  EXPECT_EQ(device.memory.total, 120 * kGiB + 512 * kMiB);
  EXPECT_GT(device.memory.free, 100 * kGiB);
  EXPECT_LE(device.memory.free, device.memory.total);
  EXPECT_EQ(device.memory.rocm_total, 120 * kGiB);
  EXPECT_TRUE(device.vllm_supported);
  EXPECT_THAT(device.seen_by, ElementsAre(Source::kKfd, Source::kDrm));
  expect_verdict(device, Backend::kVulkan, true, HasSubstr("By its files"));
  EXPECT_THAT(machine.notes, IsEmpty());
  EXPECT_FALSE(machine.host.cpu.memory_bandwidth);
}

TEST(Detect, StrixHaloSetUpBadly) {
  const Machine machine = detect_machine("strix-halo-96g");
  ASSERT_THAT(machine.devices, SizeIs(1));
  const Device& device = machine.devices[0];
  const std::uint64_t host = machine.host.memory.total;
  EXPECT_LT(host, 32 * kGiB);
  EXPECT_EQ(device.memory.total, 96 * kGiB + host);
  EXPECT_EQ(device.memory.rocm_total, host);
  EXPECT_THAT(device.memory.notes, Contains(HasSubstr("GTT is 105 GiB")));
  expect_verdict(device, Backend::kVulkan, false, HasSubstr("AMDVLK"));
  expect_verdict(device, Backend::kRocm, false, HasSubstr("6.18.4"));
  EXPECT_THAT(machine.notes, ElementsAre(HasSubstr("/dev/kfd"), HasSubstr("renderD128")));
}

TEST(Detect, TwoRadeons) {
  const Machine machine = detect_machine("two-radeons");
  ASSERT_THAT(machine.devices, SizeIs(2));
  EXPECT_EQ(machine.devices[0].gfx->value, "gfx1100");
  EXPECT_EQ(machine.devices[1].gfx->value, "gfx1201");
  for (const Device& device : machine.devices) {
    EXPECT_FALSE(device.memory.unified);
    EXPECT_FALSE(device.integrated->value);
    EXPECT_EQ(device.memory.total, device.memory.carve_out);
  }
  EXPECT_EQ(machine.devices[0].memory.total, 24560 * kMiB);
}

TEST(Detect, Mi300) {
  const Machine machine = detect_machine("mi300");
  ASSERT_THAT(machine.devices, SizeIs(1));
  const Device& device = machine.devices[0];
  EXPECT_EQ(device.architecture, Architecture::kCdna);
  EXPECT_EQ(device.gfx->value, "gfx942");
  EXPECT_FALSE(device.memory.unified);
  EXPECT_TRUE(device.vllm_supported);
  expect_verdict(device, Backend::kVulkan, false, HasSubstr("No RADV"));
  expect_verdict(device, Backend::kRocm, true, HasSubstr("By its files"));
}

TEST(Detect, Nvidia) {
  const Machine machine = detect_machine("nvidia");
  ASSERT_THAT(machine.devices, SizeIs(1));
  const Device& device = machine.devices[0];
  EXPECT_EQ(device.vendor, Vendor::kNvidia);
  EXPECT_THAT(device.name.value, HasSubstr("RTX 4090"));
  EXPECT_EQ(device.driver->value, "nvidia");
  EXPECT_EQ(verdict(device, Backend::kRocm), nullptr);
  expect_verdict(device, Backend::kCuda, true, HasSubstr("By its files"));
}

TEST(Detect, LaptopWithTwoVendors) {
  const Machine machine = detect_machine("laptop-igpu-dgpu");
  ASSERT_THAT(machine.devices, SizeIs(2));
  EXPECT_EQ(machine.devices[0].vendor, Vendor::kNvidia);
  EXPECT_EQ(machine.devices[1].vendor, Vendor::kAmd);
  EXPECT_EQ(machine.devices[1].gfx->value, "gfx1103");
  EXPECT_TRUE(machine.devices[1].memory.unified);
  EXPECT_FALSE(machine.devices[1].vllm_supported);
}

TEST(Detect, ContainerWithoutKfd) {
  const Machine machine = detect_machine("container-no-kfd");
  ASSERT_THAT(machine.devices, SizeIs(1));
  EXPECT_EQ(machine.devices[0].memory.total, 32 * kGiB + 512 * kMiB);
  EXPECT_LE(machine.devices[0].memory.free, 32 * kGiB + 512 * kMiB);
  EXPECT_THAT(machine.notes, ElementsAre(HasSubstr("--device /dev/kfd")));
  expect_verdict(machine.devices[0], Backend::kRocm, false, HasSubstr("--device /dev/kfd"));
  expect_verdict(machine.devices[0], Backend::kVulkan, true, HasSubstr("By its files"));
}

TEST(Detect, Nothing) {
  const Machine machine = detect_machine("nothing");
  EXPECT_THAT(machine.devices, IsEmpty());
  EXPECT_THAT(machine.notes, IsEmpty());
  EXPECT_THAT(machine.host.cpu.name, Not(IsEmpty()));
}

TEST(Detect, SurvivesTheHostileMachine) {
  const Machine machine = detect_machine("hostile");
  std::vector<std::string> notes;
  for (const Observation& observation : machine.observations) {
    notes.insert(notes.end(), observation.notes.begin(), observation.notes.end());
  }
  EXPECT_THAT(notes, Not(IsEmpty()));
  EXPECT_THAT(to_json(machine), HasSubstr("\"devices\""));
}

// Not even a processor.
TEST(Detect, OfAnEmptyDirectory) {
  const FakeRoot root;
  const Machine machine = detect({.files = root.files()});
  EXPECT_THAT(machine.devices, IsEmpty());
  EXPECT_THAT(machine.host.cpu.name, Not(IsEmpty()));
  EXPECT_THAT(machine.observations, SizeIs(2));
}

}  // namespace
}  // namespace yoke::hardware
