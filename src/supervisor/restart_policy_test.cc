#include "supervisor/restart_policy.h"

#include <gtest/gtest.h>

namespace yoke::supervisor {
namespace {

using namespace std::chrono_literals;
using engines::FailureClass;

constexpr Ending kQuickCrash{FailureClass::kCrash, true, 2s};
constexpr Ending kLoadCrash{FailureClass::kCrash, false, 0ms};

TEST(RestartPolicy, StartsAgainAtOnceAfterAFirstCrash) {
  RestartPolicy policy;
  EXPECT_EQ(policy.after(kQuickCrash), (RestartDecision{true, 0ms}));
}

TEST(RestartPolicy, WaitsLongerEachTimeAndGivesUp) {
  RestartPolicy policy;
  for (const auto delay : {0s, 1s, 2s, 4s, 8s}) {
    EXPECT_EQ(policy.after(kQuickCrash), (RestartDecision{true, delay}));
  }
  EXPECT_FALSE(policy.after(kQuickCrash).restart);
}

TEST(RestartPolicy, AfterGivingUpItBeginsAnew) {
  RestartPolicy policy;
  for (int i = 0; i < RestartPolicy::kMaxFailures; ++i) policy.after(kQuickCrash);
  EXPECT_EQ(policy.after(kQuickCrash), (RestartDecision{true, 0ms}));
}

TEST(RestartPolicy, ForgetsFailuresAfterAStableLife) {
  RestartPolicy policy;
  for (int i = 0; i < 4; ++i) policy.after(kQuickCrash);
  EXPECT_EQ(policy.after({FailureClass::kCrash, true, 10min}), (RestartDecision{true, 0ms}));
}

TEST(RestartPolicy, ForgetsFailuresAfterAUsefulLife) {
  RestartPolicy policy;
  for (int i = 0; i < 4; ++i) policy.after(kQuickCrash);
  EXPECT_EQ(policy.after({FailureClass::kCrash, true, 1s, RestartPolicy::kStableAnswers}),
            (RestartDecision{true, 0ms}));
}

TEST(RestartPolicy, TriesALoadThatFailedOnceMore) {
  RestartPolicy policy;
  EXPECT_EQ(policy.after(kLoadCrash), (RestartDecision{true, 1s}));
  EXPECT_FALSE(policy.after(kLoadCrash).restart);
}

TEST(RestartPolicy, WaitsForAWorkerAsForAnEngineThatCrashes) {
  constexpr Ending kAway{FailureClass::kWorkerLost, false, 0ms};
  RestartPolicy policy;
  EXPECT_EQ(policy.after({FailureClass::kWorkerLost, true, 1s}), (RestartDecision{true, 0ms}));
  for (const auto delay : {1s, 2s, 4s, 8s}) {
    EXPECT_EQ(policy.after(kAway), (RestartDecision{true, delay}));
  }
  EXPECT_FALSE(policy.after(kAway).restart);
  EXPECT_EQ(policy.after(kAway), (RestartDecision{true, 1s}));  // When it is asked for again.
}

TEST(RestartPolicy, DoesNotRepeatWhatCannotWork) {
  RestartPolicy policy;
  EXPECT_FALSE(policy.after({FailureClass::kBadModel, false, 0ms}).restart);
  EXPECT_FALSE(policy.after({FailureClass::kBadArguments, false, 0ms}).restart);
  EXPECT_FALSE(policy.after({FailureClass::kWrongOutput, false, 0ms}).restart);
}

TEST(RestartPolicy, TakesAnotherPortAtOnceButNotForEver) {
  RestartPolicy policy;
  int restarts = 0;
  while (policy.after({FailureClass::kPortTaken, false, 0ms}) == RestartDecision{true, 0ms}) {
    ASSERT_LT(++restarts, 20);
  }
  EXPECT_EQ(restarts, RestartPolicy::kMaxFailures - 1);
}

}  // namespace
}  // namespace yoke::supervisor
