#include "planner/inventory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yoke::planner {
namespace {

using hardware::Backend;
using hardware::Device;
using hardware::Fact;
using hardware::Machine;
using hardware::Source;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

Machine machine_of(std::uint64_t total, std::uint64_t available) {
  Machine machine;
  machine.host.memory.total = total;
  machine.host.memory.available = available;
  return machine;
}

Device card(const std::string& name, std::uint64_t total, std::uint64_t free) {
  Device device;
  device.name.value = name;
  device.memory.total = total;
  device.memory.free = free;
  device.backends = {{Backend::kVulkan, true, ""}, {Backend::kRocm, true, ""}};
  return device;
}

// As hardware::memory_budget() sums it up.
Device apu(std::uint64_t carve_out, std::uint64_t gtt, std::uint64_t free) {
  Device device = card("Radeon 8060S", carve_out + gtt, free);
  device.memory.unified = true;
  device.memory.carve_out = carve_out;
  device.memory.gtt = gtt;
  return device;
}

std::vector<std::string> names_of(const Inventory& inventory) {
  std::vector<std::string> names;
  for (const ComputeDevice& device : inventory.devices) names.push_back(device.name);
  return names;
}

TEST(InventoryOfThisMachine, IsTheHostsMemoryWithoutAGpu) {
  Machine machine = machine_of(64 * kGiB, 60 * kGiB);
  machine.devices.push_back(card("Radeon", 16 * kGiB, 15 * kGiB));
  const Inventory inventory = inventory_of(machine, "cpu");
  ASSERT_THAT(names_of(inventory), ElementsAre("CPU"));
  ASSERT_EQ(inventory.pools.size(), 1);
  EXPECT_EQ(inventory.pools[0].name, "system memory");
  EXPECT_EQ(inventory.pools[0].free, 60 * kGiB);
  EXPECT_EQ(inventory.pools[0].reserve, 64 * kGiB / 50);
  EXPECT_EQ(inventory.usable(0), 60 * kGiB - 64 * kGiB / 50);
}

TEST(InventoryOfThisMachine, GivesACardItsOwnPool) {
  Machine machine = machine_of(32 * kGiB, 30 * kGiB);
  machine.devices = {card("A", 24 * kGiB, 20 * kGiB), card("A", 24 * kGiB, 24 * kGiB)};
  const Inventory inventory = inventory_of(machine, "vulkan");
  EXPECT_THAT(names_of(inventory), ElementsAre("CPU", "A #1", "A #2"));
  ASSERT_EQ(inventory.pools.size(), 3);
  EXPECT_EQ(inventory.pools[1].name, "A's memory");
  EXPECT_EQ(inventory.usable(0), 29 * kGiB);
  EXPECT_EQ(inventory.usable(1), 20 * kGiB - kGpuReserve);
  EXPECT_EQ(inventory.usable(2), 24 * kGiB - kGpuReserve);
  EXPECT_THAT(names_of(inventory_of(machine, "cuda")), ElementsAre("CPU"));
}

TEST(InventoryOfThisMachine, IsOneBudgetOnAnApu) {
  Machine machine = machine_of(124 * kGiB, 110 * kGiB);
  machine.devices = {apu(512 * kMiB, 120 * kGiB, 110 * kGiB + 512 * kMiB)};
  const Inventory inventory = inventory_of(machine, "vulkan");
  ASSERT_EQ(inventory.pools.size(), 1);
  EXPECT_EQ(inventory.pools[0].name, "unified memory");
  EXPECT_EQ(inventory.pools[0].total, 124 * kGiB + 512 * kMiB);
  EXPECT_EQ(inventory.pools[0].free, 110 * kGiB + 512 * kMiB);
  EXPECT_EQ(inventory.devices[1].pool, 0);
  EXPECT_EQ(inventory.devices[1].reach, 110 * kGiB + 512 * kMiB);
  EXPECT_EQ(inventory.devices[0].reach, 110 * kGiB);  // Not the carve-out.
}

// By default the kernel lets a GPU map half of the memory.
TEST(InventoryOfThisMachine, LimitsAnApuToWhatItsGpuCanMap) {
  Machine machine = machine_of(124 * kGiB, 110 * kGiB);
  machine.devices = {apu(512 * kMiB, 62 * kGiB, 62 * kGiB + 512 * kMiB)};
  const Inventory inventory = inventory_of(machine, "vulkan");
  EXPECT_EQ(inventory.usable(1), 62 * kGiB + 512 * kMiB);
  EXPECT_GT(inventory.usable(0), 100 * kGiB);
}

TEST(InventoryOfThisMachine, GivesRocmTheCarveOutOrGtt) {
  Machine machine = machine_of(62 * kGiB, 50 * kGiB);
  machine.devices = {apu(64 * kGiB, 31 * kGiB, 60 * kGiB + 31 * kGiB)};
  machine.devices[0].memory_facts.vram_used = Fact<std::uint64_t>{4 * kGiB, Source::kDrm, {}};
  EXPECT_EQ(inventory_of(machine, "rocm").devices[1].reach, 60 * kGiB);
  EXPECT_EQ(inventory_of(machine, "vulkan").devices[1].reach, 91 * kGiB);
  machine.devices = {apu(512 * kMiB, 60 * kGiB, 48 * kGiB + 512 * kMiB)};
  EXPECT_EQ(inventory_of(machine, "rocm").devices[1].reach, 48 * kGiB);
}

TEST(InventoryOfThisMachine, LeavesAnIntegratedGpuBesideACardAlone) {
  Machine machine = machine_of(64 * kGiB, 60 * kGiB);
  machine.devices = {apu(512 * kMiB, 30 * kGiB, 30 * kGiB), card("RX", 16 * kGiB, 16 * kGiB)};
  const Inventory inventory = inventory_of(machine, "vulkan");
  EXPECT_THAT(names_of(inventory), ElementsAre("CPU", "RX"));
  EXPECT_EQ(inventory.pools[0].name, "system memory");
  EXPECT_THAT(inventory.notes, ElementsAre(HasSubstr("Radeon 8060S is left alone")));
}

TEST(InventoryOfThisMachine, StaysWithinTheContainersLimit) {
  Machine machine = machine_of(64 * kGiB, 7 * kGiB);
  machine.host.memory.limit = 8 * kGiB;
  const Inventory inventory = inventory_of(machine, "cpu");
  EXPECT_EQ(inventory.pools[0].total, 8 * kGiB);
  EXPECT_EQ(inventory.usable(0), 6 * kGiB);
  EXPECT_THAT(inventory.notes, ElementsAre("The container's memory limit is 8 GiB."));
}

TEST(InventoryOfThisMachine, KnowsNothingOfAnUnknownHost) {
  const Inventory inventory = inventory_of(Machine{}, "vulkan");
  EXPECT_EQ(inventory.usable(0), 0);
  EXPECT_THAT(inventory.notes, ElementsAre("How much memory the system has is unknown."));
}

config::DescribedMachine strix(const std::string& name) {
  config::DescribedMachine machine;
  machine.name = name;
  machine.memory = 120 * kGiB;
  config::DescribedGpu gpu;
  gpu.name = "Radeon 8060S";
  gpu.unified = true;
  gpu.memory = 100 * kGiB;
  machine.gpus.push_back(gpu);
  return machine;
}

TEST(InventoryOfDescribedMachines, HasOtherMachinesFirst) {
  const Inventory inventory = inventory_of({.machines = {strix("a"), strix("b"), strix("c")}});
  EXPECT_THAT(names_of(inventory),
              ElementsAre("a: CPU", "b: Radeon 8060S", "c: Radeon 8060S", "a: Radeon 8060S"));
  ASSERT_EQ(inventory.pools.size(), 3);
  EXPECT_EQ(inventory.pools[1].name, "b: unified memory");
  EXPECT_EQ(inventory.pools[1].machine, "b");
  EXPECT_EQ(inventory.pools[1].reserve, 120 * kGiB / 50);
  EXPECT_EQ(inventory.devices[0].pool, inventory.devices[3].pool);
  EXPECT_TRUE(inventory.devices[1].remote);
  EXPECT_FALSE(inventory.devices[3].remote);
  EXPECT_EQ(inventory.usable(1), 100 * kGiB);
  EXPECT_THAT(inventory.notes, IsEmpty());
}

TEST(InventoryOfDescribedMachines, LetsAMachineWithoutAGpuHelpWithItsCpu) {
  config::DescribedMachine box;
  box.name = "box";
  box.memory = 64 * kGiB;
  box.reserve = 0;
  const Inventory inventory = inventory_of({.machines = {strix("a"), box}});
  EXPECT_THAT(names_of(inventory), ElementsAre("a: CPU", "box: CPU", "a: Radeon 8060S"));
  EXPECT_EQ(inventory.devices[1].backend, "cpu");
  EXPECT_TRUE(inventory.devices[1].remote);
  EXPECT_EQ(inventory.usable(1), 64 * kGiB);
}

TEST(InventoryOfDescribedMachines, GivesACardItsOwnPool) {
  config::DescribedMachine box = strix("box");
  config::DescribedGpu gpu;
  gpu.name = "RTX 4090";
  gpu.backend = "cuda";
  gpu.memory = 24 * kGiB;
  box.gpus.push_back(gpu);
  const Inventory inventory = inventory_of({.machines = {box}});
  EXPECT_THAT(names_of(inventory), ElementsAre("box: CPU", "box: RTX 4090"));
  EXPECT_EQ(inventory.pools[inventory.devices[1].pool].name, "box: RTX 4090's memory");
  EXPECT_EQ(inventory.usable(1), 24 * kGiB - kGpuReserve);
  EXPECT_THAT(inventory.notes, ElementsAre(HasSubstr("box: Radeon 8060S is left alone")));
}

TEST(DefaultReserve, FollowsTheMemory) {
  EXPECT_EQ(default_reserve(32 * kGiB), kGiB);
  EXPECT_EQ(default_reserve(120 * kGiB), 120 * kGiB / 50);
  EXPECT_EQ(default_reserve(2 * kGiB), 256 * kMiB);
  EXPECT_EQ(default_reserve(0), 0);
}

}  // namespace
}  // namespace yoke::planner
