// One model: loaded when it is wanted, unloaded when it is not, and what happens when that fails.
#include "scheduler/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scheduler/test_scheduler.h"

namespace yoke::scheduler {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class SchedulerTest : public testing::Test, public TestScheduler {};

TEST_F(SchedulerTest, ARequestLoadsItsModelAndGoesToItWhenItIsReady) {
  EXPECT_THAT(add(model("chat", 8)), IsEmpty());
  EXPECT_THAT(request(1, "chat"), ElementsAre("start chat"));
  EXPECT_THAT(request(2, "chat"), IsEmpty());
  EXPECT_EQ(used_gib(), 8u);
  EXPECT_EQ(next("chat"), "ready in about 10.0 s");
  at(4);
  EXPECT_THAT(ready("chat"), ElementsAre("dispatch 1 to chat", "dispatch 2 to chat"));
  EXPECT_THAT(request(3, "chat"), ElementsAre("dispatch 3 to chat"));
  EXPECT_EQ(status("chat").active, 3u);
  EXPECT_EQ(status("chat").load_time, Duration(4'000)) << "as it was measured";
}

TEST_F(SchedulerTest, WithFewSlotsTheNextOneWaitsForOneToEnd) {
  auto spec = model("chat", 8);
  spec.max_active = 1;
  load(spec);
  EXPECT_THAT(request(1, "chat"), ElementsAre("dispatch 1 to chat"));
  EXPECT_THAT(request(2, "chat"), IsEmpty());
  EXPECT_THAT(request(3, "chat", 1), IsEmpty());
  EXPECT_THAT(tell(RequestEnded{1}), ElementsAre("dispatch 3 to chat")) << "priority first";
  at(20);
  EXPECT_THAT(request(4, "chat", 1), IsEmpty());
  EXPECT_THAT(tell(RequestEnded{3}), ElementsAre("dispatch 2 to chat")) << "it waited for long";
  EXPECT_THAT(tell(RequestEnded{2}), ElementsAre("dispatch 4 to chat"));
}

TEST_F(SchedulerTest, UnknownModelsAndFullQueuesAreRejectedAtOnce) {
  EXPECT_THAT(request(1, "nobody"), ElementsAre("reject 1 model_not_found"));
  auto spec = model("chat", 8);
  spec.max_waiting = 1;
  add(spec);
  EXPECT_THAT(request(2, "chat"), ElementsAre("start chat"));
  EXPECT_THAT(request(3, "chat"), ElementsAre("reject 3 model_busy"));
  EXPECT_GT(last_reject().retry_after, Duration(0));
}

TEST_F(SchedulerTest, ADeadlineThatPassesIsAnAnswer) {
  add(model("chat", 8));
  tell(RequestArrived{.request = 1, .model = "chat", .deadline = Time(Duration(3'000))});
  EXPECT_EQ(wake(), 3);
  at(3);
  EXPECT_THAT(tick(), ElementsAre("reject 1 model_loading"));
  EXPECT_TRUE(wants_no_wake());
  EXPECT_THAT(ready("chat"), IsEmpty()) << "it is answered once";
}

TEST_F(SchedulerTest, WhoLeavesIsNotDispatched) {
  add(model("chat", 8));
  request(1, "chat");
  request(2, "chat");
  EXPECT_THAT(tell(RequestCancelled{1}), IsEmpty());
  EXPECT_THAT(ready("chat"), ElementsAre("dispatch 2 to chat"));
  EXPECT_THAT(tell(RequestCancelled{2}), IsEmpty());
  EXPECT_EQ(status("chat").active, 0u);
  EXPECT_THAT(tell(RequestEnded{2}), IsEmpty()) << "it has left already";
  EXPECT_EQ(status("chat").active, 0u);
}

TEST_F(SchedulerTest, AnIdleModelIsUnloadedAfterItsTime) {
  auto spec = model("chat", 8);
  spec.idle_timeout = Duration(180'000);
  load(spec);
  EXPECT_EQ(next("chat"), "unloads in 3 min 0 s");
  at(100);
  request(1, "chat");
  EXPECT_TRUE(wants_no_wake()) << "it is not idle";
  at(150);
  tell(RequestEnded{1});
  EXPECT_EQ(wake(), 330);
  at(330);
  EXPECT_THAT(tick(), ElementsAre("stop chat: idle"));
  EXPECT_EQ(used_gib(), 8u) << "until it is confirmed";
  EXPECT_THAT(stopped("chat"), IsEmpty());
  EXPECT_EQ(used_gib(), 0u);
}

TEST_F(SchedulerTest, ARequestForOneThatStopsWaitsAndLoadsItAgain) {
  auto spec = model("chat", 8);
  spec.idle_timeout = Duration(1'000);
  load(spec);
  at(1);
  EXPECT_THAT(tick(), ElementsAre("stop chat: idle"));
  EXPECT_THAT(request(1, "chat"), IsEmpty());
  EXPECT_EQ(next("chat"), "starts again when it has stopped");
  EXPECT_THAT(stopped("chat"), ElementsAre("start chat"));
}

TEST_F(SchedulerTest, PreloadedAndPinnedModelsAreLoadedUnasked) {
  auto first = model("first", 10);
  first.preload = true;
  EXPECT_THAT(add(first), ElementsAre("start first"));
  auto second = model("second", 10);
  second.pinned = true;
  EXPECT_THAT(add(second), ElementsAre("start second"));
  auto third = model("third", 10);
  third.preload = true;
  ready("first");
  EXPECT_THAT(add(third), IsEmpty()) << "nobody is evicted for it";
  tell(Unload{"first"});
  EXPECT_THAT(stopped("first"), IsEmpty()) << "nor does it come when there is room, unasked";
  auto fourth = model("fourth", 20);
  fourth.pinned = true;
  EXPECT_THAT(add(fourth), IsEmpty());
  EXPECT_EQ(next("fourth"), "does not fit");
  EXPECT_EQ(status("fourth").error.value().code, kBlockedByPin);
}

TEST_F(SchedulerTest, AnEngineThatDiedIsStartedAgainForThoseWhoWait) {
  add(model("chat", 8));
  request(1, "chat");
  EXPECT_THAT(fail("chat", FailureKind::kRetryLater, 2), IsEmpty());
  EXPECT_EQ(used_gib(), 0u);
  EXPECT_EQ(next("chat"), "starts again in 2.0 s");
  EXPECT_EQ(wake(), 2);
  EXPECT_THAT(request(2, "chat"), IsEmpty());
  at(2);
  EXPECT_THAT(tick(), ElementsAre("start chat"));
  EXPECT_THAT(ready("chat"), ElementsAre("dispatch 1 to chat", "dispatch 2 to chat"));
}

TEST_F(SchedulerTest, WhatADeadEngineAnsweredComesBackInItsOldPlace) {
  auto spec = model("chat", 8);
  spec.max_active = 1;
  load(spec);
  at(10);
  request(1, "chat");
  at(11);
  request(2, "chat");
  EXPECT_THAT(fail("chat", FailureKind::kRetryLater, 0), ElementsAre("start chat"));
  tell(RequestArrived{.request = 3, .model = "chat", .since = Time(Duration(10'000))});
  EXPECT_THAT(ready("chat"), ElementsAre("dispatch 3 to chat"));
  EXPECT_THAT(tell(RequestEnded{1}), IsEmpty()) << "of the dead engine";
}

TEST_F(SchedulerTest, AnEngineThatGaveUpIsTriedAgainWhenItIsAskedForLater) {
  add(model("chat", 8));
  request(1, "chat");
  EXPECT_THAT(fail("chat", FailureKind::kGivenUp, 10), ElementsAre("reject 1 internal_error"));
  EXPECT_EQ(last_reject().error.message, "It crashed.");
  at(4);
  EXPECT_THAT(request(2, "chat"), ElementsAre("reject 2 internal_error"));
  EXPECT_EQ(last_reject().retry_after, Duration(6'000));
  at(10);
  EXPECT_THAT(request(3, "chat"), ElementsAre("start chat"));
  fail("chat", FailureKind::kGivenUp, 10);
  EXPECT_THAT(tell(Load{"chat"}), ElementsAre("start chat")) << "a user's word counts at once";
}

TEST_F(SchedulerTest, AnEngineThatRanOutOfMemoryGetsMore) {
  add(model("chat", 8));
  request(1, "chat");
  EXPECT_THAT(fail("chat", FailureKind::kNeedsMore, 0, {{0, 12 * kGiB}}),
              ElementsAre("start chat"));
  EXPECT_EQ(used_gib(), 12u);
  EXPECT_THAT(fail("chat", FailureKind::kNeedsMore, 0), ElementsAre("start chat"));
  EXPECT_EQ(used_gib(), 13u) << "an eighth more, where nobody says how much";
  EXPECT_THAT(fail("chat", FailureKind::kNeedsMore, 0, {{0, 25 * kGiB}}),
              ElementsAre("reject 1 model_too_large"));
  EXPECT_THAT(last_reject().error.message, HasSubstr("lacks 1 GiB of unified memory"));
}

TEST_F(SchedulerTest, TheNextStartMayBeOneThatNeedsLess) {
  add(model("chat", 8));
  request(1, "chat");
  EXPECT_THAT(fail("chat", FailureKind::kRetryLater, 0, {{0, 6 * kGiB}}),
              ElementsAre("start chat"));
  EXPECT_EQ(used_gib(), 6u);
}

TEST_F(SchedulerTest, UnloadLetsItFinishAndLoadTakesThatBack) {
  load(model("chat", 8));
  request(1, "chat");
  EXPECT_THAT(tell(Unload{"chat"}), IsEmpty());
  EXPECT_EQ(next("chat"), "stops when it has answered");
  EXPECT_THAT(tell(Load{"chat"}), IsEmpty());
  EXPECT_THAT(request(2, "chat"), ElementsAre("dispatch 2 to chat"));
  tell(Unload{"chat"});
  EXPECT_THAT(request(3, "chat"), IsEmpty()) << "waits for the next life";
  tell(RequestEnded{1});
  EXPECT_THAT(tell(RequestEnded{2}), ElementsAre("stop chat: asked"));
  EXPECT_THAT(stopped("chat"), ElementsAre("start chat"));
  EXPECT_THAT(tell(Unload{"chat"}), ElementsAre("reject 3 model_unloaded", "stop chat: asked"));
}

TEST_F(SchedulerTest, AReloadRestartsOnlyWhatChanged) {
  load(model("same", 4));
  load(model("other", 4));
  request(1, "other");
  auto same = model("same", 4);
  same.priority = 3;
  auto other = model("other", 5);
  other.revision = "2";
  EXPECT_THAT(tell(ModelsChanged{{same, other}, {}}), IsEmpty());
  EXPECT_THAT(request(2, "same"), ElementsAre("dispatch 2 to same"));
  EXPECT_THAT(request(3, "other"), IsEmpty()) << "waits for what is configured now";
  EXPECT_THAT(tell(RequestEnded{1}), ElementsAre("stop other: replaced"));
  EXPECT_THAT(stopped("other"), ElementsAre("start other"));
  EXPECT_THAT(ready("other"), ElementsAre("dispatch 3 to other"));
  EXPECT_EQ(used_gib(), 9u);
}

TEST_F(SchedulerTest, WhatWasLoadedIsLoadedAgainAfterAChangeAndAChangeTakenBackIsNone) {
  load(model("chat", 4));
  auto changed = model("chat", 4);
  changed.revision = "2";
  EXPECT_THAT(add(changed), ElementsAre("stop chat: replaced"));
  EXPECT_THAT(stopped("chat"), ElementsAre("start chat"));
  ready("chat");
  request(1, "chat");
  EXPECT_THAT(add(model("chat", 4)), IsEmpty());
  EXPECT_THAT(add(changed), IsEmpty());
  EXPECT_THAT(request(2, "chat"), ElementsAre("dispatch 2 to chat"));
}

TEST_F(SchedulerTest, ARemovedModelFinishesWhatItAnswersAndRejectsTheRest) {
  auto spec = model("chat", 8);
  spec.max_active = 1;
  load(spec);
  request(1, "chat");
  request(2, "chat");
  EXPECT_THAT(tell(ModelsChanged{{}, {"chat"}}), ElementsAre("reject 2 model_not_found"));
  EXPECT_THAT(request(3, "chat"), ElementsAre("reject 3 model_not_found"));
  EXPECT_THAT(tell(RequestEnded{1}), ElementsAre("stop chat: removed"));
  stopped("chat");
  EXPECT_EQ(status("chat").name, "") << "it is gone";
  EXPECT_EQ(used_gib(), 0u);
}

TEST_F(SchedulerTest, EventsOfALifeThatIsOverMeanNothing) {
  add(model("chat", 8));
  request(1, "chat");
  const auto first = run("chat");
  fail("chat", FailureKind::kRetryLater, 0);
  EXPECT_THAT(tell(EngineReady{first}), IsEmpty());
  EXPECT_THAT(tell(EngineStopped{first}), IsEmpty());
  EXPECT_EQ(status("chat").state, State::kStarting);
  EXPECT_EQ(used_gib(), 8u);
}

}  // namespace
}  // namespace yoke::scheduler
