#include "hardware/host_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yoke::hardware {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(ParseKernelVersion, TakesThePartsThatAreThere) {
  EXPECT_EQ(parse_kernel_version("6.18.4-arch1-1"), (KernelVersion{6, 18, 4}));
  EXPECT_EQ(parse_kernel_version("6.18-rc3"), (KernelVersion{6, 18, 0}));
  EXPECT_EQ(parse_kernel_version("7"), (KernelVersion{7, 0, 0}));
  EXPECT_EQ(parse_kernel_version("6."), (KernelVersion{6, 0, 0}));
  EXPECT_EQ(parse_kernel_version("6.1.-3"), (KernelVersion{6, 1, 0}));
  EXPECT_EQ(parse_kernel_version("6.99999999999.3"), (KernelVersion{6, 0, 0}));
  EXPECT_EQ(parse_kernel_version("5.15.167.4-microsoft-standard-WSL2"),
            (KernelVersion{5, 15, 167}));
}

TEST(ParseKernelVersion, IsNothingForOtherText) {
  for (const char* text : {"", "v6.1", "-6.1", " 6.1", "99999999999.1"}) {
    EXPECT_EQ(parse_kernel_version(text), std::nullopt) << text;
  }
}

TEST(KernelVersion, Compares) {
  EXPECT_LT((KernelVersion{6, 18, 3}), (KernelVersion{6, 18, 4}));
  EXPECT_LT((KernelVersion{6, 9, 99}), (KernelVersion{6, 18, 0}));
  EXPECT_LT((KernelVersion{6, 99, 0}), (KernelVersion{7, 0, 0}));
}

TEST(ParseOsRelease, TakesQuotesAway) {
  const OsRelease release = parse_os_release(
      "PRETTY_NAME=\"Debian \\\"12\\\"\"\nID=debian\nID_LIKE='a b'\nVERSION_ID=\"12\"\n");
  EXPECT_EQ(release.pretty_name, "Debian \"12\"");
  EXPECT_EQ(release.id, "debian");
  EXPECT_EQ(release.id_like, "a b");
}

TEST(ParseOsRelease, ShowsNoControlCharacters) {
  const OsRelease release = parse_os_release("PRETTY_NAME=\"a\x1b[31m\xff\"\nID='\nID_LIKE=\"\n");
  EXPECT_EQ(release.pretty_name, "a?[31m?");
  EXPECT_EQ(release.id, "'");
}

TEST(ParseKernelArguments, KeepsQuotedWordsWhole) {
  EXPECT_THAT(parse_kernel_arguments("ro quiet  dyndbg=\"file a.c +p\" \"x y\"\n"),
              ElementsAre("ro", "quiet", "dyndbg=file a.c +p", "x y"));
  EXPECT_THAT(parse_kernel_arguments(" \n"), IsEmpty());
  EXPECT_THAT(parse_kernel_arguments("a=\"unterminated b"), ElementsAre("a=unterminated b"));
}

TEST(ParseKernelArguments, EndsWhereInitsBegin) {
  EXPECT_THAT(parse_kernel_arguments("quiet rdinit=/x -- --token secret"),
              ElementsAre("quiet", "rdinit=/x"));
}

TEST(ParseMeminfo, IsInBytes) {
  const auto memory = parse_meminfo(
      "MemTotal:       24684096 kB\nMemFree: 1 kB\nMemAvailable:   24191776 kB\n"
      "SwapTotal:  2048 kB\nSwapFree:  1024 kB\n");
  ASSERT_TRUE(memory.has_value());
  EXPECT_EQ(memory->total, 24684096u * 1024ull);
  EXPECT_EQ(memory->available, 24191776u * 1024ull);
  EXPECT_EQ(memory->swap_total, 2048u * 1024ull);
  EXPECT_EQ(memory->swap_free, 1024u * 1024ull);
}

TEST(ParseMeminfo, FallsBackToFreeMemoryAndClampsNonsense) {
  EXPECT_EQ(parse_meminfo("MemTotal: 10 kB\nMemFree: 4 kB\n").value().available, 4096u);
  const auto memory = parse_meminfo("MemTotal: 10 kB\nMemAvailable: 99 kB\nSwapFree: 7 kB\n");
  EXPECT_EQ(memory.value().available, 10240u);
  EXPECT_EQ(memory.value().swap_free, 0u);
}

TEST(ParseMeminfo, IsNothingWithoutATotal) {
  for (const char* text : {"", "MemFree: 4 kB\n", "MemTotal: kB\n", "MemTotal: -1 kB\n",
                           "MemTotal: 18446744073709551615 kB\n"}) {
    EXPECT_FALSE(parse_meminfo(text).has_value()) << text;
  }
}

std::string cpuinfo(const char* name, const char* flags) {
  std::string text;
  for (const char* core : {"0", "1", "0", "1"}) {
    text += std::string("processor\t: 0\nmodel name\t: ") + name +
            "\nphysical id\t: 0\ncore id\t\t: " + core + "\nflags\t\t: " + flags + "\n\n";
  }
  return text;
}

constexpr const char* kAvx512 = "fpu avx2 avx512f avx512bw avx512cd avx512dq avx512vl";

TEST(ParseCpuinfo, CountsProcessorsCoresAndSockets) {
  const CpuInfo info = parse_cpuinfo(cpuinfo("AMD EPYC", kAvx512));
  EXPECT_EQ(info.name, "AMD EPYC");
  EXPECT_EQ(info.processors, 4);
  EXPECT_EQ(info.cores, 2);
  EXPECT_EQ(info.sockets, 1);
}

TEST(ParseCpuinfo, AsksForEveryPartOfAvx512) {
  const CpuInfo all = parse_cpuinfo(cpuinfo("x", kAvx512));
  EXPECT_TRUE(all.avx2);
  EXPECT_TRUE(all.avx512);
  EXPECT_FALSE(all.avx512_bf16);
  EXPECT_FALSE(all.avx512_vnni);
  EXPECT_FALSE(all.amx);
  for (const std::string part : {" avx512f", " avx512bw", " avx512cd", " avx512dq", " avx512vl"}) {
    std::string fewer = kAvx512;
    fewer.erase(fewer.find(part), part.size());
    EXPECT_FALSE(parse_cpuinfo(cpuinfo("x", fewer.c_str())).avx512) << part;
  }
}

TEST(ParseCpuinfo, TellsTheExtensions) {
  const CpuInfo info = parse_cpuinfo(cpuinfo("x", "avx512_bf16 avx512_vnni amx_tile amx_int8"));
  EXPECT_TRUE(info.avx512_bf16);
  EXPECT_TRUE(info.avx512_vnni);
  EXPECT_TRUE(info.amx);
  EXPECT_TRUE(parse_cpuinfo(cpuinfo("x", "amx_tile amx_bf16")).amx);
  EXPECT_FALSE(parse_cpuinfo(cpuinfo("x", "amx_tile")).amx);
  EXPECT_FALSE(parse_cpuinfo(cpuinfo("x", "avx_vnni noavx2")).avx512_vnni);
  EXPECT_FALSE(parse_cpuinfo(cpuinfo("x", "avx_vnni noavx2")).avx2);
}

TEST(ParseCpuinfo, NamesArmByItsCores) {
  const char* const kCores =
      "processor\t: 0\nBogoMIPS\t: 2000.00\nFeatures\t: fp asimd sve\nCPU implementer\t: 0x41\n"
      "CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd85\n\n"
      "processor\t: 1\nCPU implementer\t: 0x41\nCPU part\t: 0xd87\n\n"
      "processor\t: 2\nCPU implementer\t: 0x41\nCPU part\t: 0xd87\n";
  const CpuInfo info = parse_cpuinfo(kCores);
  EXPECT_EQ(info.name, "Arm Cortex-X925 + Arm Cortex-A725");
  EXPECT_EQ(info.processors, 3);
  EXPECT_EQ(info.cores, 0);
  EXPECT_EQ(info.sockets, 0);
  EXPECT_FALSE(info.avx2);
}

TEST(ParseCpuinfo, NamesArmCoresThatItDoesNotKnow) {
  EXPECT_EQ(parse_cpuinfo("processor: 0\nCPU implementer: 0x61\nCPU part: 0x39\n").name,
            "Apple processor (part 0x39)");
  EXPECT_EQ(parse_cpuinfo("processor: 0\nCPU implementer: 0x99\nCPU part: 0x1\n").name,
            "ARM processor (implementer 0x99, part 0x1)");
}

TEST(ParseCpuinfo, NamesOtherArchitectures) {
  EXPECT_EQ(parse_cpuinfo("processor: 0\ncpu\t\t: POWER9, altivec supported\n").name,
            "POWER9, altivec supported");
  EXPECT_EQ(parse_cpuinfo("processor: 0\nisa: rv64imafdc\nuarch: sifive,u74-mc\n").name,
            "sifive,u74-mc");
}

TEST(ParseCpuinfo, SurvivesWhatIsMalformed) {
  const CpuInfo info = parse_cpuinfo(
      "processor\t: 0\nmodel name\t:\nflags\nflags\t\t: avx2\x01\x02\ncore id: -4\nphysical id: x\n"
      ":::\nprocessor: 99999999999999999999\nmodel name: \xff\x1b\n");
  EXPECT_EQ(info.processors, 1);
  EXPECT_EQ(info.cores, 0);
  EXPECT_FALSE(info.avx2);
  EXPECT_EQ(info.name, "??");
  EXPECT_EQ(parse_cpuinfo("").name, "");
}

}  // namespace
}  // namespace yoke::hardware
