#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hardware/host_parts.h"
#include "hardware/test_support.h"

namespace yoke::hardware {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr std::uint64_t kGiB = 1ull << 30;

TEST(ParseMounts, TakesRootPointTypeAndOptions) {
  const auto mounts = parse_mounts(
      "28 23 0:26 / /sys/fs/cgroup rw,nosuid shared:3 master:1 - cgroup2 cgroup2 rw,nsdelegate\n"
      "29 23 0:27 /a\\040b /x\\134y rw - ext4 /dev/sda1 rw\n");
  ASSERT_THAT(mounts, SizeIs(2));
  EXPECT_EQ(mounts[0].root, "/");
  EXPECT_EQ(mounts[0].point, "/sys/fs/cgroup");
  EXPECT_EQ(mounts[0].type, "cgroup2");
  EXPECT_EQ(mounts[0].options, "rw,nsdelegate");
  EXPECT_EQ(mounts[1].root, "/a b");
  EXPECT_EQ(mounts[1].point, "/x\\y");
}

TEST(ParseMounts, PassesOverMalformedLines) {
  EXPECT_THAT(parse_mounts("\n1\n1 2 3\n1 2 3 / /x rw shared:1\n1 2 3 / /x rw - ext4\n"
                           "1 2 3 / x rw - ext4 a rw\n- - - - - - - - -\n"),
              IsEmpty());
}

TEST(ParseMounts, TakesNoMoreThanItCanShow) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += "1 2 3 / /x rw - ext4 a rw\n";
  EXPECT_THAT(parse_mounts(text), SizeIs(4096));
}

TEST(ParseCgroups, TakesBothVersions) {
  const auto cgroups =
      parse_cgroups("4:cpu,cpuacct:/a:b\n1:name=systemd:/\n0::/user.slice\nx\n5:cpu\n");
  ASSERT_THAT(cgroups, SizeIs(3));
  EXPECT_EQ(cgroups[0].controllers, "cpu,cpuacct");
  EXPECT_EQ(cgroups[0].path, "/a:b");
  EXPECT_EQ(cgroups[2].controllers, "");
  EXPECT_EQ(cgroups[2].path, "/user.slice");
}

TEST(CgroupDirectories, GoFromTheMountToTheProcess) {
  const auto directories = [](std::string root, std::string_view path) {
    return cgroup_directories({.root = std::move(root), .point = "/cg", .type = {}, .options = {}},
                              path);
  };
  EXPECT_THAT(directories("/", "/a/b"), ElementsAre("/cg", "/cg/a", "/cg/a/b"));
  EXPECT_THAT(directories("/", "/"), ElementsAre("/cg"));
  EXPECT_THAT(directories("/docker/1", "/docker/1"), ElementsAre("/cg"));
  EXPECT_THAT(directories("/docker/1", "/docker/1/x"), ElementsAre("/cg", "/cg/x"));
  EXPECT_THAT(directories("/docker/1", "/docker/12"), ElementsAre("/cg"));
  EXPECT_THAT(directories("/docker/1", "/other"), ElementsAre("/cg"));
  EXPECT_THAT(directories("/", "/../other"), ElementsAre("/cg"));
  EXPECT_THAT(directories("/", "/a/../../b"), ElementsAre("/cg"));
}

TEST(ParseCpuMax, IsAShareOfTime) {
  using Limit = std::pair<std::optional<double>, bool>;
  EXPECT_EQ(parse_cpu_max("800000 100000"), Limit(8.0, true));
  EXPECT_EQ(parse_cpu_max("50000 100000"), Limit(0.5, true));
  EXPECT_EQ(parse_cpu_max("max 100000"), Limit(std::nullopt, true));
  for (const char* text : {"", "-1 0", "1 0", "0 100000", "x 100000", "100000"}) {
    EXPECT_EQ(parse_cpu_max(text), Limit(std::nullopt, false)) << text;
  }
}

class Cgroup : public testing::Test {
 protected:
  CgroupLimits limits(std::string_view mountinfo, std::string_view cgroup) {
    const HostFiles files = root_.files();
    return read_cgroup_limits(NotedFiles(files, notes_), parse_mounts(mountinfo),
                              parse_cgroups(cgroup));
  }
  static constexpr std::string_view kV2 = "28 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n";
  static constexpr std::string_view kV1 =
      "34 31 0:31 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
      "35 31 0:33 / /cg/memory rw - cgroup cgroup rw,memory\n";

  FakeRoot root_;
  std::vector<std::string> notes_;
};

TEST_F(Cgroup, NestedLimitsOfV2AllCount) {
  root_.write("/cg/a/cpu.max", "200000 100000\n");
  root_.write("/cg/a/memory.max", std::to_string(4 * kGiB) + "\n");
  root_.write("/cg/a/memory.current", std::to_string(3 * kGiB) + "\n");
  root_.write("/cg/a/memory.stat", "anon 1\ninactive_file 1073741824\n");
  root_.write("/cg/a/b/cpu.max", "max 100000\n");
  root_.write("/cg/a/b/memory.max", std::to_string(8 * kGiB) + "\n");
  root_.write("/cg/a/b/memory.current", std::to_string(1 * kGiB) + "\n");
  const CgroupLimits seen = limits(kV2, "0::/a/b\n");
  EXPECT_EQ(seen.cpus, 2.0);
  EXPECT_EQ(seen.memory, 4 * kGiB);
  EXPECT_EQ(seen.headroom, 2 * kGiB);  // 3 GiB in use, of which 1 GiB is page cache.
  EXPECT_THAT(notes_, IsEmpty());
}

TEST_F(Cgroup, ThrottlingAtMemoryHighCountsToo) {
  root_.write("/cg/memory.max", "max\n");
  root_.write("/cg/memory.high", std::to_string(2 * kGiB) + "\n");
  EXPECT_EQ(limits(kV2, "0::/\n").memory, 2 * kGiB);
}

TEST_F(Cgroup, LimitsOfV1Count) {
  root_.write("/cg/cpu/x/cpu.cfs_quota_us", "150000\n");
  root_.write("/cg/cpu/x/cpu.cfs_period_us", "100000\n");
  root_.write("/cg/memory/memory.limit_in_bytes", "9223372036854771712\n");
  root_.write("/cg/memory/x/memory.limit_in_bytes", std::to_string(kGiB) + "\n");
  root_.write("/cg/memory/x/memory.usage_in_bytes", std::to_string(kGiB / 4) + "\n");
  const CgroupLimits seen = limits(kV1, "4:memory:/x\n3:cpu,cpuacct:/x\n");
  EXPECT_EQ(seen.cpus, 1.5);
  EXPECT_EQ(seen.memory, kGiB);
  EXPECT_EQ(seen.headroom, kGiB / 4 * 3);
  EXPECT_THAT(notes_, IsEmpty());
}

TEST_F(Cgroup, NoLimitIsNone) {
  root_.write("/cg/cpu/cpu.cfs_quota_us", "-1\n");
  root_.write("/cg/cpu/cpu.cfs_period_us", "100000\n");
  root_.write("/cg/memory/memory.limit_in_bytes", "9223372036854771712\n");
  const CgroupLimits seen = limits(kV1, "4:memory:/\n3:cpu:/\n");
  EXPECT_EQ(seen.cpus, std::nullopt);
  EXPECT_EQ(seen.memory, std::nullopt);
  EXPECT_THAT(notes_, IsEmpty());
}

TEST_F(Cgroup, WhatIsMalformedIsNoted) {
  root_.write("/cg/cpu.max", "-1 0\n");
  root_.write("/cg/memory.max", "99999999999999999999999\n");
  const CgroupLimits seen = limits(kV2, "0::/\n");
  EXPECT_EQ(seen.cpus, std::nullopt);
  EXPECT_EQ(seen.memory, std::nullopt);
  EXPECT_THAT(notes_, ElementsAre(HasSubstr("/cg/cpu.max holds no limit: '-1 0'"),
                                  HasSubstr("/cg/memory.max holds no limit")));
}

}  // namespace
}  // namespace yoke::hardware
