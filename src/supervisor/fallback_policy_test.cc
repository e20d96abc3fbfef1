#include "supervisor/fallback_policy.h"

#include <gtest/gtest.h>

namespace yoke::supervisor {
namespace {

using namespace std::chrono_literals;
using engines::FailureClass;

constexpr FallbackPolicy::Clock::time_point kStart{1h};

Ending ready(FailureClass cls, std::chrono::milliseconds served = 1s) {
  return {cls, true, served};
}
Ending loading(FailureClass cls) { return {cls, false, 0ms}; }

TEST(FallbackPolicy, ACrashIsTriedOnceMoreThenTheNextBackend) {
  FallbackPolicy policy({"vulkan", "cpu"});
  EXPECT_EQ(policy.current(kStart), 0u);
  EXPECT_EQ(policy.after(ready(FailureClass::kCrash), kStart),
            (FallbackDecision{Remedy::kSame, 0ms}));
  EXPECT_EQ(policy.after(ready(FailureClass::kCrash), kStart),
            (FallbackDecision{Remedy::kNext, 0ms}));
  EXPECT_EQ(policy.current(kStart), 1u);
}

TEST(FallbackPolicy, AStableLifeWipesACrashOut) {
  FallbackPolicy policy({"vulkan", "cpu"});
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(policy.after(ready(FailureClass::kCrash, 10min), kStart).remedy, Remedy::kSame);
  }
}

TEST(FallbackPolicy, WhatCanNotLoadGoesOnWithTheNextAtOnce) {
  for (const FailureClass cls : {FailureClass::kLoadFailed, FailureClass::kStartTimeout,
                                 FailureClass::kCrash, FailureClass::kOutOfMemory}) {
    FallbackPolicy policy({"vulkan", "rocm", "cpu"});
    EXPECT_EQ(policy.after(loading(cls), kStart).remedy, Remedy::kNext);
    EXPECT_EQ(policy.after(loading(cls), kStart).remedy, Remedy::kNext);
    EXPECT_EQ(policy.current(kStart), 2u);
  }
}

TEST(FallbackPolicy, ABadModelFallsThroughNoBackend) {
  FallbackPolicy policy({"vulkan", "rocm", "cuda", "cpu"});
  EXPECT_EQ(policy.after(loading(FailureClass::kBadModel), kStart).remedy, Remedy::kGiveUp);
  EXPECT_EQ(policy.after(loading(FailureClass::kBadArguments), kStart).remedy, Remedy::kGiveUp);
  EXPECT_EQ(policy.current(kStart), 0u);
}

TEST(FallbackPolicy, ALostVulkanDeviceIsTriedWithSmallerBatches) {
  FallbackPolicy policy({"vulkan", "cpu"});
  EXPECT_EQ(policy.after(ready(FailureClass::kDeviceLost), kStart).remedy, Remedy::kSmaller);
  EXPECT_TRUE(policy.smaller());
  EXPECT_EQ(policy.after(ready(FailureClass::kDeviceLost), kStart).remedy, Remedy::kNext);
  EXPECT_FALSE(policy.smaller());
  FallbackPolicy rocm({"rocm", "cpu"});
  EXPECT_EQ(rocm.after(ready(FailureClass::kDeviceLost), kStart).remedy, Remedy::kNext);
}

TEST(FallbackPolicy, AQuarantineEndsAndIsLongerEachTime) {
  FallbackPolicy policy({"vulkan", "cpu"});
  policy.after(ready(FailureClass::kGpuFault), kStart);
  EXPECT_EQ(policy.quarantined_until(0), kStart + 10min);
  EXPECT_EQ(policy.current(kStart + 9min), 1u);
  EXPECT_EQ(policy.current(kStart + 10min), 0u);
  policy.after(ready(FailureClass::kGpuFault), kStart + 10min);
  EXPECT_EQ(policy.current(kStart + 29min), 1u);
  EXPECT_EQ(policy.current(kStart + 30min), 0u);
  auto now = kStart + 30min;
  for (int i = 0; i < 20; ++i) {
    policy.after(ready(FailureClass::kGpuFault), now);
    EXPECT_LE(policy.quarantined_until(0), now + FallbackPolicy::kLongestQuarantine);
    now = policy.quarantined_until(0);
  }
}

TEST(FallbackPolicy, TheLastResortIsStartedAgainAsAlways) {
  FallbackPolicy policy({"vulkan", "cpu"});
  policy.after(ready(FailureClass::kGpuHang), kStart);
  EXPECT_EQ(policy.after(ready(FailureClass::kCrash), kStart),
            (FallbackDecision{Remedy::kSame, 0ms}));
  EXPECT_EQ(policy.after(ready(FailureClass::kCrash), kStart),
            (FallbackDecision{Remedy::kSame, 1s}));
  for (int i = 0; i < 3; ++i) policy.after(ready(FailureClass::kCrash), kStart);
  EXPECT_EQ(policy.after(ready(FailureClass::kCrash), kStart).remedy, Remedy::kGiveUp);
  EXPECT_EQ(policy.current(kStart), 1u);
}

TEST(FallbackPolicy, WithOneBackendNothingIsQuarantined) {
  FallbackPolicy policy({"cpu"});
  EXPECT_EQ(policy.after(ready(FailureClass::kGpuFault), kStart),
            (FallbackDecision{Remedy::kSame, 0ms}));
  EXPECT_LE(policy.quarantined_until(0), kStart);
}

}  // namespace
}  // namespace yoke::supervisor
