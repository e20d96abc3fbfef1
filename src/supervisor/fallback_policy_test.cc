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

// One life of the backend that is current ends.
FallbackDecision end(FallbackPolicy& policy, const Ending& ending,
                     FallbackPolicy::Clock::time_point now = kStart) {
  return policy.after(policy.current(now), ending, now);
}

TEST(FallbackPolicy, ACrashIsTriedOnceMoreThenTheNextBackend) {
  FallbackPolicy policy({"vulkan", "cpu"});
  EXPECT_EQ(policy.current(kStart), 0u);
  EXPECT_EQ(end(policy, ready(FailureClass::kCrash), kStart),
            (FallbackDecision{Remedy::kSame, 0ms}));
  EXPECT_EQ(end(policy, ready(FailureClass::kCrash), kStart),
            (FallbackDecision{Remedy::kNext, 0ms}));
  EXPECT_EQ(policy.current(kStart), 1u);
}

TEST(FallbackPolicy, AStableLifeWipesACrashOut) {
  FallbackPolicy policy({"vulkan", "cpu"});
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(end(policy, ready(FailureClass::kCrash, 10min), kStart).remedy, Remedy::kSame);
  }
}

TEST(FallbackPolicy, WhatCanNotLoadGoesOnWithTheNextAtOnce) {
  for (const FailureClass cls : {FailureClass::kLoadFailed, FailureClass::kStartTimeout,
                                 FailureClass::kCrash, FailureClass::kOutOfMemory}) {
    FallbackPolicy policy({"vulkan", "rocm", "cpu"});
    EXPECT_EQ(end(policy, loading(cls), kStart).remedy, Remedy::kNext);
    EXPECT_EQ(end(policy, loading(cls), kStart).remedy, Remedy::kNext);
    EXPECT_EQ(policy.current(kStart), 2u);
  }
}

TEST(FallbackPolicy, ABadModelFallsThroughNoBackend) {
  FallbackPolicy policy({"vulkan", "rocm", "cuda", "cpu"});
  EXPECT_EQ(end(policy, loading(FailureClass::kBadModel), kStart).remedy, Remedy::kGiveUp);
  EXPECT_EQ(end(policy, loading(FailureClass::kBadArguments), kStart).remedy, Remedy::kGiveUp);
  EXPECT_EQ(policy.current(kStart), 0u);
}

TEST(FallbackPolicy, ALostVulkanDeviceIsTriedWithSmallerBatches) {
  FallbackPolicy policy({"vulkan", "cpu"});
  EXPECT_EQ(end(policy, ready(FailureClass::kDeviceLost), kStart).remedy, Remedy::kSmaller);
  EXPECT_TRUE(policy.smaller(0));
  EXPECT_FALSE(policy.smaller(1));
  EXPECT_EQ(end(policy, ready(FailureClass::kDeviceLost), kStart).remedy, Remedy::kNext);
  // After its quarantine too.
  EXPECT_TRUE(policy.smaller(0));
  EXPECT_EQ(end(policy, ready(FailureClass::kDeviceLost), kStart + 10min).remedy, Remedy::kNext);
  FallbackPolicy rocm({"rocm", "cpu"});
  EXPECT_EQ(end(rocm, ready(FailureClass::kDeviceLost), kStart).remedy, Remedy::kNext);
}

TEST(FallbackPolicy, AQuarantineEndsAndIsLongerEachTime) {
  FallbackPolicy policy({"vulkan", "cpu"});
  end(policy, ready(FailureClass::kGpuFault), kStart);
  EXPECT_EQ(policy.quarantined_until(0), kStart + 10min);
  EXPECT_EQ(policy.current(kStart + 9min), 1u);
  EXPECT_EQ(policy.current(kStart + 10min), 0u);
  end(policy, ready(FailureClass::kGpuFault), kStart + 10min);
  EXPECT_EQ(policy.current(kStart + 29min), 1u);
  EXPECT_EQ(policy.current(kStart + 30min), 0u);
  auto now = kStart + 30min;
  for (int i = 0; i < 20; ++i) {
    end(policy, ready(FailureClass::kGpuFault), now);
    EXPECT_LE(policy.quarantined_until(0), now + FallbackPolicy::kLongestQuarantine);
    now = policy.quarantined_until(0);
  }
}

TEST(FallbackPolicy, TheLastResortIsStartedAgainAsAlways) {
  FallbackPolicy policy({"vulkan", "cpu"});
  end(policy, ready(FailureClass::kGpuHang), kStart);
  EXPECT_EQ(end(policy, ready(FailureClass::kCrash), kStart),
            (FallbackDecision{Remedy::kSame, 0ms}));
  EXPECT_EQ(end(policy, ready(FailureClass::kCrash), kStart),
            (FallbackDecision{Remedy::kSame, 1s}));
  for (int i = 0; i < 3; ++i) end(policy, ready(FailureClass::kCrash), kStart);
  EXPECT_EQ(end(policy, ready(FailureClass::kCrash), kStart).remedy, Remedy::kGiveUp);
  EXPECT_EQ(policy.current(kStart), 1u);
}

TEST(FallbackPolicy, WrongOutputOfTheLastResortIsLeftAlone) {
  FallbackPolicy policy({"rocm", "cpu"});
  EXPECT_EQ(end(policy, loading(FailureClass::kWrongOutput), kStart).remedy, Remedy::kNext);
  EXPECT_EQ(end(policy, loading(FailureClass::kWrongOutput), kStart).remedy, Remedy::kGiveUp);
  FallbackPolicy only({"rocm"});
  EXPECT_EQ(end(only, loading(FailureClass::kWrongOutput), kStart).remedy, Remedy::kGiveUp);
}

TEST(FallbackPolicy, WhatAnEarlierOneKnewGoesOn) {
  FallbackPolicy policy({"vulkan", "rocm", "cpu"});
  policy.restore(0, kStart + 5min, 2, true);
  policy.restore(1, kStart - 1h, 1, false);
  EXPECT_EQ(policy.quarantined_until(0), kStart + 5min);
  EXPECT_EQ(policy.quarantines(0), 2);
  EXPECT_TRUE(policy.smaller(0));
  EXPECT_FALSE(policy.smaller(1));
  EXPECT_EQ(policy.current(kStart), 1u);
  EXPECT_EQ(policy.current(kStart + 5min), 0u);
  end(policy, ready(FailureClass::kGpuFault), kStart);
  EXPECT_EQ(policy.quarantined_until(1), kStart + 20min);  // Its second.
  EXPECT_EQ(policy.quarantines(1), 2);
  end(policy, ready(FailureClass::kGpuFault), kStart + 5min);
  EXPECT_EQ(policy.quarantined_until(0), kStart + 45min);  // Its third.
}

TEST(FallbackPolicy, WhatEndedNeedNotBeTheCurrentOne) {
  FallbackPolicy policy({"vulkan", "cpu"});
  policy.restore(0, kStart, 1, false);
  EXPECT_EQ(policy.current(kStart), 0u);  // While the CPU's engine still runs.
  EXPECT_EQ(policy.after(1, ready(FailureClass::kGpuHang), kStart).remedy, Remedy::kNext);
  EXPECT_EQ(policy.quarantines(0), 1);
  EXPECT_EQ(policy.quarantines(1), 1);
}

TEST(FallbackPolicy, AllInQuarantineLeavesTheLastOne) {
  FallbackPolicy policy({"vulkan", "cpu"});
  policy.restore(0, kStart + 5min, 1, false);
  policy.restore(1, kStart + 9min, 1, false);
  EXPECT_EQ(policy.current(kStart), 1u);
  EXPECT_EQ(policy.current(kStart + 5min), 0u);
}

TEST(FallbackPolicy, AClearedBackendIsAsIfItHadNeverFailed) {
  FallbackPolicy policy({"vulkan", "cpu"});
  end(policy, ready(FailureClass::kDeviceLost), kStart);
  policy.clear(0);
  EXPECT_FALSE(policy.smaller(0));
  end(policy, ready(FailureClass::kGpuFault), kStart);
  EXPECT_EQ(policy.current(kStart), 1u);
  policy.clear(0);
  EXPECT_EQ(policy.current(kStart), 0u);
  EXPECT_EQ(policy.quarantines(0), 0);
  EXPECT_EQ(end(policy, ready(FailureClass::kCrash), kStart).remedy, Remedy::kSame);
  policy.clear(0);
  EXPECT_EQ(end(policy, ready(FailureClass::kCrash), kStart).remedy, Remedy::kSame);
  end(policy, ready(FailureClass::kGpuFault), kStart);
  EXPECT_EQ(policy.quarantined_until(0), kStart + 10min);  // The first again.
}

TEST(FallbackPolicy, AClearedLastResortIsStartedAtOnce) {
  FallbackPolicy policy({"cpu"});
  for (int i = 0; i < 3; ++i) end(policy, ready(FailureClass::kCrash), kStart);
  policy.clear(0);
  EXPECT_EQ(end(policy, ready(FailureClass::kCrash), kStart),
            (FallbackDecision{Remedy::kSame, 0ms}));
}

TEST(FallbackPolicy, AQuarantineOfLongAgoIsForgotten) {
  FallbackPolicy policy({"vulkan", "cpu"});
  policy.restore(0, kStart, 5, false);
  const auto later = kStart + FallbackPolicy::kForgetAfter;
  end(policy, ready(FailureClass::kGpuFault), later);
  EXPECT_EQ(policy.quarantined_until(0), later + 10min);
  EXPECT_EQ(policy.quarantines(0), 1);
}

TEST(FallbackPolicy, ALostWorkerIsNoBackendsFault) {
  FallbackPolicy policy({"vulkan", "cpu"});
  EXPECT_EQ(end(policy, ready(FailureClass::kWorkerLost)), (FallbackDecision{Remedy::kSame, 0ms}));
  EXPECT_EQ(end(policy, loading(FailureClass::kWorkerLost)), (FallbackDecision{Remedy::kSame, 1s}));
  for (int i = 0; i < 20; ++i) end(policy, loading(FailureClass::kWorkerLost));
  EXPECT_EQ(policy.current(kStart), 0u);
  EXPECT_EQ(policy.quarantines(0), 0);
}

TEST(FallbackPolicy, WithOneBackendNothingIsQuarantined) {
  FallbackPolicy policy({"cpu"});
  EXPECT_EQ(end(policy, ready(FailureClass::kGpuFault), kStart),
            (FallbackDecision{Remedy::kSame, 0ms}));
  EXPECT_LE(policy.quarantined_until(0), kStart);
}

}  // namespace
}  // namespace yoke::supervisor
