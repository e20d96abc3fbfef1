#include "hardware/host.h"

#include <chrono>
#include <fstream>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hardware/test_support.h"

namespace yoke::hardware {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr std::uint64_t kGiB = 1ull << 30;

Host host_of(std::string_view machine) { return read_host(FakeRoot::machine(machine).files()); }

TEST(ReadHost, KnowsStrixHalo) {
  const Host host = host_of("strix-halo-512m");
  EXPECT_EQ(host.os_name, "Fedora Linux 43 (Workstation Edition)");
  EXPECT_EQ(host.os_id, "fedora");
  EXPECT_EQ(host.os_like, "");
  EXPECT_EQ(host.product, "Framework Desktop (AMD Ryzen AI Max 300 Series)");
  EXPECT_EQ(host.kernel_text, "6.18.9-200.fc43.x86_64");
  EXPECT_EQ(host.kernel, (KernelVersion{6, 18, 9}));
  EXPECT_THAT(host.kernel_arguments, Contains("ttm.pages_limit=31457280"));
  EXPECT_EQ(host.cpu.name, "AMD RYZEN AI MAX+ 395 w/ Radeon 8060S");
  EXPECT_EQ(host.cpu.cores, 16);
  EXPECT_EQ(host.cpu.threads, 32);
  EXPECT_EQ(host.cpu.usable_threads, 32);
  EXPECT_EQ(host.cpu.sockets, 1);
  EXPECT_EQ(host.cpu.numa_nodes, 1);
  EXPECT_TRUE(host.cpu.avx512);
  EXPECT_TRUE(host.cpu.avx512_bf16);
  EXPECT_FALSE(host.cpu.amx);
  EXPECT_EQ(host.cpu.governor, "performance");
  EXPECT_EQ(host.memory.total, 131139284ull * 1024);
  EXPECT_EQ(host.memory.available, 126214440ull * 1024);
  EXPECT_EQ(host.memory.swap_total, 8388604ull * 1024);
  EXPECT_EQ(host.memory.limit, std::nullopt);
  EXPECT_EQ(host.container.kind, "");
  EXPECT_THAT(host.notes, IsEmpty());
}

TEST(ReadHost, CountsWhatALargeCarveOutLeavesTheSystem) {
  const Host host = host_of("strix-halo-96g");
  EXPECT_LT(host.memory.total, 31 * kGiB);
  EXPECT_EQ(host.os_like, "debian");
  EXPECT_EQ(host.kernel, (KernelVersion{6, 17, 0}));
  EXPECT_EQ(host.cpu.governor, "powersave");
}

TEST(ReadHost, KnowsTheOtherProcessors) {
  const Host radeons = host_of("two-radeons");
  EXPECT_TRUE(radeons.cpu.avx2);
  EXPECT_FALSE(radeons.cpu.avx512);
  const Host nvidia = host_of("nvidia");
  EXPECT_TRUE(nvidia.cpu.amx);
  EXPECT_EQ(nvidia.cpu.cores, 12);
  EXPECT_EQ(nvidia.cpu.threads, 24);
  const Host cloud = host_of("mi300");
  EXPECT_EQ(cloud.cpu.cores, 20);
  EXPECT_EQ(cloud.cpu.governor, "");
  const Host small = host_of("nothing");
  EXPECT_TRUE(small.cpu.avx512);
  EXPECT_FALSE(small.cpu.avx512_vnni);
  EXPECT_EQ(small.os_name, "Debian GNU/Linux 12 (bookworm)");
}

TEST(ReadHost, CountsTheContainersLimits) {
  const Host host = host_of("container-no-kfd");
  EXPECT_EQ(host.container.kind, "docker");
  EXPECT_EQ(host.cpu.threads, 32);
  EXPECT_EQ(host.cpu.usable_threads, 8);
  EXPECT_EQ(host.memory.total, 131139284ull * 1024);
  EXPECT_EQ(host.memory.limit, 32 * kGiB);
  EXPECT_EQ(host.memory.available, 30 * kGiB + kGiB / 2);  // 2 GiB in use, 0.5 GiB of it cache.
  EXPECT_THAT(host.notes, IsEmpty());
}

TEST(ReadHost, CountsAffinity) {
  FakeRoot root = FakeRoot::machine("nothing");
  root.write("/proc/self/status", "Name:\tyoke\nCpus_allowed_list:\t1,3,8-9\n");
  EXPECT_EQ(read_host(root.files()).cpu.usable_threads, 2);
}

TEST(ReadHost, CountsOnlyProcessorsThatAreOnline) {
  FakeRoot root = FakeRoot::machine("strix-halo-512m");
  root.write("/sys/devices/system/cpu/online", "0-3,16-17\n");
  const Host host = read_host(root.files());
  EXPECT_EQ(host.cpu.threads, 6);
  EXPECT_EQ(host.cpu.cores, 4);
  EXPECT_EQ(host.cpu.usable_threads, 6);
}

TEST(ReadHost, MakesDoWithoutSysfs) {
  FakeRoot root = FakeRoot::machine("strix-halo-512m");
  root.remove("/sys");
  const Host host = read_host(root.files());
  EXPECT_EQ(host.cpu.cores, 16);
  EXPECT_EQ(host.cpu.threads, 32);
  EXPECT_EQ(host.cpu.numa_nodes, 1);
  EXPECT_EQ(host.product, "");
}

TEST(ReadHost, NamesAnArmBoardByItsDeviceTree) {
  FakeRoot root;
  root.write("/sys/firmware/devicetree/base/model", std::string("NVIDIA DGX Spark\0", 17));
  root.write("/proc/cpuinfo", "processor: 0\nCPU implementer: 0x41\nCPU part: 0xd85\n");
  const Host host = read_host(root.files());
  EXPECT_EQ(host.product, "NVIDIA DGX Spark");
  EXPECT_EQ(host.cpu.name, "Arm Cortex-X925");
}

TEST(ReadHost, LeavesOutThePlaceholdersOfFirmware) {
  FakeRoot root;
  root.write("/sys/class/dmi/id/sys_vendor", "System manufacturer\n");
  root.write("/sys/class/dmi/id/product_name", "System Product Name\n");
  EXPECT_EQ(read_host(root.files()).product, "");
  root.write("/sys/class/dmi/id/sys_vendor", "HP\n");
  root.write("/sys/class/dmi/id/product_name", "HP Z2 Mini G1a Workstation\n");
  EXPECT_EQ(read_host(root.files()).product, "HP Z2 Mini G1a Workstation");
}

TEST(ReadHost, SucceedsWithNothingAtAll) {
  FakeRoot root;
  const Host host = read_host(root.files());
  EXPECT_EQ(host.cpu.name, "Unknown processor");
  EXPECT_EQ(host.cpu.cores, 1);
  EXPECT_EQ(host.cpu.threads, 1);
  EXPECT_EQ(host.cpu.usable_threads, 1);
  EXPECT_EQ(host.memory.total, 0u);
  EXPECT_EQ(host.kernel, std::nullopt);
  EXPECT_THAT(host.notes, SizeIs(2));
}

TEST(ReadHost, SkipsWhatIsMalformedWithANote) {
  const Host host = host_of("hostile");
  EXPECT_EQ(host.cpu.name, "Unknown processor");
  EXPECT_EQ(host.cpu.threads, 1);
  EXPECT_FALSE(host.cpu.avx512);
  EXPECT_EQ(host.memory.total, 0u);
  EXPECT_EQ(host.memory.limit, std::nullopt);
  EXPECT_EQ(host.kernel, std::nullopt);
  EXPECT_EQ(host.product, "");
  EXPECT_EQ(host.os_name.find('\x1b'), std::string::npos);
  for (const char* part :
       {"/proc/meminfo is larger than", "kernel's version is not understood",
        "cpu/online holds no list", "node/online holds no list", "/proc/self/status can't be read",
        "cpu.max holds no limit", "memory.max holds no limit", "sys_vendor is larger than"}) {
    EXPECT_THAT(host.notes, Contains(HasSubstr(part)));
  }
}

// This machine, as another program sees it.
TEST(ReadHost, AgreesWithTheSystemItRunsOn) {
  const Host host = read_host(HostFiles::open().value());
  EXPECT_EQ(host.memory.total, static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                                   static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)));
  EXPECT_EQ(host.cpu.threads, ::sysconf(_SC_NPROCESSORS_ONLN));
  EXPECT_GT(host.memory.available, 0u);
  EXPECT_LE(host.memory.available, host.memory.total);
  EXPECT_NE(host.cpu.name, "Unknown processor");
  ASSERT_TRUE(host.kernel.has_value());
  EXPECT_GE(host.kernel->major, 4);
#if defined(__x86_64__)
  EXPECT_EQ(host.cpu.avx2, __builtin_cpu_supports("avx2") != 0);
  EXPECT_EQ(host.cpu.avx512,
            __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                __builtin_cpu_supports("avx512cd"));
#endif
}

TEST(MeasureMemoryBandwidth, IsPlausibleAndQuick) {
  const auto begin = std::chrono::steady_clock::now();
  const double rate =
      measure_memory_bandwidth(static_cast<int>(std::thread::hardware_concurrency()));
  const auto took = std::chrono::steady_clock::now() - begin;
  EXPECT_GT(rate, 0.05e9);
  EXPECT_LT(rate, 2e12);
  // 100 ms on an idle machine; tests share theirs.
  EXPECT_LT(took, std::chrono::seconds(1));
}

TEST(MeasureMemoryBandwidth, GivesUpWithoutMemoryAndTakesAnyNumberOfThreads) {
  EXPECT_EQ(measure_memory_bandwidth(1, 0), 0);
  EXPECT_GT(measure_memory_bandwidth(0, 16u << 20), 0);
  EXPECT_GT(measure_memory_bandwidth(100000, 64u << 20), 0);
}

}  // namespace
}  // namespace yoke::hardware
