#include "models/byte_ranges.h"

#include <random>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yoke::models {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

TEST(ByteRanges, WhatTouchesBecomesOne) {
  ByteRanges ranges;
  ranges.add(10, 10);
  ranges.add(30, 10);
  EXPECT_THAT(ranges.ranges(), ElementsAre(Pair(10, 20), Pair(30, 40)));
  ranges.add(20, 10);
  EXPECT_THAT(ranges.ranges(), ElementsAre(Pair(10, 40)));
  ranges.add(15, 5);
  ranges.add(0, 0);
  EXPECT_EQ(ranges.count(), 30);
}

TEST(ByteRanges, Gaps) {
  ByteRanges ranges;
  EXPECT_EQ(ranges.gap(0, 100), (ByteRange{0, 100}));
  ranges.add(0, 10);
  ranges.add(20, 10);
  EXPECT_EQ(ranges.gap(0, 100), (ByteRange{10, 10}));
  EXPECT_EQ(ranges.gap(15, 100), (ByteRange{15, 5}));
  EXPECT_EQ(ranges.gap(20, 100), (ByteRange{30, 70}));
  EXPECT_EQ(ranges.gap(20, 30), std::nullopt);
  EXPECT_EQ(ranges.gap(0, 0), std::nullopt);
}

TEST(ByteRanges, AsASetOfBytesDoesIt) {
  constexpr std::uint64_t kSize = 64;
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    ByteRanges ranges;
    std::vector<bool> bytes(kSize);
    for (int step = 0; step < 12; ++step) {
      const std::uint64_t first = random() % kSize;
      const std::uint64_t count = random() % (kSize - first);
      ranges.add(first, count);
      for (std::uint64_t i = first; i < first + count; ++i) bytes[i] = true;
      ASSERT_EQ(ranges.count(), static_cast<std::uint64_t>(std::ranges::count(bytes, true)));
      const auto gap = ranges.gap(0, kSize);
      const auto hole = std::ranges::find(bytes, false);
      ASSERT_EQ(gap.has_value(), hole != bytes.end());
      if (!gap) continue;
      const auto end = std::find(hole, bytes.end(), true);
      ASSERT_EQ(gap->first, static_cast<std::uint64_t>(hole - bytes.begin()));
      ASSERT_EQ(gap->count, static_cast<std::uint64_t>(end - hole));
    }
  }
}

}  // namespace
}  // namespace yoke::models
