// Several models in one memory: who has to go for whom, and when.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scheduler/test_scheduler.h"

namespace yoke::scheduler {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class SwapTest : public testing::Test, public TestScheduler {};

TEST_F(SwapTest, TheIdleOneGoesAndItsMemoryIsWaitedFor) {
  load(model("chat", 16));
  add(model("big", 20));
  EXPECT_THAT(request(1, "big"), ElementsAre("stop chat for big"));
  EXPECT_EQ(next("big"), "waits for the memory of chat");
  EXPECT_THAT(stopped("chat"), ElementsAre("start big"));
  EXPECT_THAT(ready("big"), ElementsAre("dispatch 1 to big"));
}

TEST_F(SwapTest, NobodyGoesWhereThereIsRoom) {
  load(model("chat", 4));
  load(model("code", 4));
  load(model("embed", 1));
  add(model("more", 15));
  EXPECT_THAT(request(1, "more"), ElementsAre("start more")) << "by memory, never by count";
}

TEST_F(SwapTest, WhatCostsLeastToLoadAgainGoes) {
  auto slow = model("slow", 12);
  slow.load_time = Duration(60'000);
  load(slow);
  load(model("quick", 12));
  auto status_of_slow = status("slow");
  // Both were measured as they were started: at once.
  EXPECT_EQ(status_of_slow.load_time, Duration(1));
  slow.load_time = Duration(61'000);
  add(slow);
  add(model("next", 10));
  EXPECT_THAT(request(1, "next"), ElementsAre("stop quick for next"));
}

TEST_F(SwapTest, OfEqualOnesTheOneUnusedForLongestGoes) {
  load(model("a", 12));
  load(model("b", 12));
  at(60);
  request(1, "a");
  tell(RequestEnded{1});
  at(61);
  add(model("next", 10));
  EXPECT_THAT(request(2, "next"), ElementsAre("stop b for next"));
}

TEST_F(SwapTest, PriorityProtects) {
  auto a = model("a", 12);
  a.priority = 5;
  load(a);
  at(100);
  load(model("b", 12));
  add(model("next", 10));
  EXPECT_THAT(request(2, "next"), ElementsAre("stop b for next"));
}

TEST_F(SwapTest, TwoLoadsNeverShareMemory) {
  load(model("chat", 20));
  add(model("left", 12));
  add(model("right", 14));
  EXPECT_THAT(request(1, "left"), ElementsAre("stop chat for left"));
  EXPECT_THAT(request(2, "right"), IsEmpty()) << "the memory of chat is promised";
  EXPECT_THAT(stopped("chat"), ElementsAre("start left"));
  EXPECT_THAT(ready("left"), ElementsAre("dispatch 1 to left"));
  EXPECT_EQ(next("right"), "waits for left to finish");
  EXPECT_THAT(tell(RequestEnded{1}), ElementsAre("stop left for right"));
}

TEST_F(SwapTest, TwoThatFitAreLoadedSideBySide) {
  load(model("chat", 20));
  add(model("left", 10));
  add(model("right", 14));
  EXPECT_THAT(request(1, "left"), ElementsAre("stop chat for left"));
  EXPECT_THAT(request(2, "right"), IsEmpty());
  EXPECT_THAT(stopped("chat"), ElementsAre("start left", "start right"));
}

TEST_F(SwapTest, OneThatLoadsOrAnswersOrIsPinnedStays) {
  add(model("loading", 8));
  request(1, "loading");
  load(model("busy", 8));
  request(2, "busy");
  load(model("pinned", 8));
  tell(Pin{"pinned"});
  add(model("next", 8));
  EXPECT_THAT(request(3, "next"), IsEmpty());
  EXPECT_THAT(ready("loading"), ElementsAre("dispatch 1 to loading"));
  EXPECT_THAT(tell(RequestEnded{2}), ElementsAre("stop busy for next"));
}

TEST_F(SwapTest, WhoWaitedForLongEnoughGetsItsTurn) {
  load(model("chat", 16));
  at(100);
  request(1, "chat");
  add(model("big", 20));
  EXPECT_THAT(request(2, "big"), IsEmpty());
  EXPECT_THAT(request(3, "chat"), ElementsAre("dispatch 3 to chat")) << "a little while";
  EXPECT_EQ(wake(), 115);
  at(115);
  EXPECT_THAT(tick(), IsEmpty());
  EXPECT_EQ(next("chat"), "makes way for big when it has answered");
  EXPECT_THAT(request(4, "chat"), IsEmpty()) << "it came after big's";
  tell(RequestEnded{1});
  EXPECT_THAT(tell(RequestEnded{3}), ElementsAre("stop chat for big"));
  stopped("chat");
  EXPECT_THAT(ready("big"), ElementsAre("dispatch 2 to big"));
  EXPECT_EQ(next("chat"), "waits for big to finish");
  EXPECT_THAT(tell(RequestEnded{2}), ElementsAre("stop big for chat"));
  stopped("big");
  EXPECT_THAT(ready("chat"), ElementsAre("dispatch 4 to chat"));
}

TEST_F(SwapTest, ATurnThatNobodyWantsAnyMoreIsOver) {
  load(model("chat", 16));
  at(100);
  request(1, "chat");
  add(model("big", 20));
  request(2, "big");
  at(120);
  tick();
  EXPECT_THAT(request(3, "chat"), IsEmpty());
  EXPECT_THAT(tell(RequestCancelled{2}), ElementsAre("dispatch 3 to chat"));
  EXPECT_EQ(status("chat").state, State::kReady);
}

TEST_F(SwapTest, AModelJustLoadedServesBeforeItMakesWay) {
  auto chat = model("chat", 16);
  add(chat);
  add(model("big", 20));
  request(1, "chat");
  request(2, "big");
  at(50);
  EXPECT_THAT(ready("chat"), ElementsAre("dispatch 1 to chat")) << "it took 50 s to load";
  EXPECT_THAT(request(3, "chat"), ElementsAre("dispatch 3 to chat"));
  at(65);
  tick();
  EXPECT_THAT(request(4, "chat"), IsEmpty());
}

TEST_F(SwapTest, WhatWaitedWhenItGotReadyIsServedBeforeItMakesWay) {
  auto chat = model("chat", 16);
  chat.max_active = 1;
  add(chat);
  add(model("big", 20));
  request(1, "chat");
  at(1);
  request(2, "big");
  at(2);
  request(3, "chat");
  at(3);
  EXPECT_THAT(ready("chat"), ElementsAre("dispatch 1 to chat"));
  at(60);
  EXPECT_THAT(request(4, "chat"), IsEmpty());
  EXPECT_THAT(tell(RequestEnded{1}), ElementsAre("dispatch 3 to chat"))
      << "or it was loaded for one";
  EXPECT_THAT(tell(RequestEnded{3}), ElementsAre("stop chat for big"));
}

TEST_F(SwapTest, SmallOnesDontSlipInFrontOfOneWhoseTurnItIs) {
  load(model("left", 12));
  load(model("right", 4));
  at(100);
  request(1, "left");
  request(2, "right");
  add(model("big", 24));
  add(model("small", 8));
  request(3, "big");
  at(120);
  tick();
  EXPECT_THAT(request(4, "small"), IsEmpty()) << "8 GiB are free, but kept for big";
  EXPECT_EQ(next("small"), "waits for big to finish");
  tell(RequestEnded{1});
  EXPECT_THAT(tell(RequestEnded{2}), ElementsAre("stop left for big", "stop right for big"));
}

TEST_F(SwapTest, WhatNeverFitsIsRejectedAtOnceWithWhatItLacks) {
  add(model("huge", 30));
  EXPECT_THAT(request(1, "huge"), ElementsAre("reject 1 model_too_large"));
  EXPECT_THAT(last_reject().error.message, HasSubstr("lacks 6 GiB of unified memory"));
  EXPECT_EQ(last_reject().retry_after, Duration(0));
  load(model("chat", 10));
  tell(Pin{"chat"});
  add(model("big", 20));
  EXPECT_THAT(request(2, "big"), ElementsAre("reject 2 blocked_by_pin"));
  EXPECT_THAT(last_reject().error.message, HasSubstr("6 GiB"));
  EXPECT_THAT(last_reject().error.message, HasSubstr("chat"));
  tell(Unpin{"chat"});
  EXPECT_THAT(request(3, "big"), ElementsAre("stop chat for big"));
}

TEST_F(SwapTest, MeasuredMemoryCountsFromThenOn) {
  load(model("chat", 10));
  load(model("code", 10));
  EXPECT_THAT(tell(MemoryMeasured{run("code"), {{0, 8 * kGiB}}}), IsEmpty());
  add(model("embed", 6));
  EXPECT_THAT(request(1, "embed"), ElementsAre("start embed"));
  ready("embed");
  EXPECT_THAT(tell(MemoryMeasured{run("embed"), {{0, 7 * kGiB}}}),
              ElementsAre("stop chat: over_budget"));
  EXPECT_EQ(status("code").needs, (Needs{{0, 8 * kGiB}}));
  EXPECT_TRUE(status("code").measured);
}

TEST_F(SwapTest, AShrunkenBudgetIsKeptAsSoonAsItCanBe) {
  load(model("busy", 12));
  load(model("idle", 6));
  request(1, "busy");
  EXPECT_THAT(tell(PoolChanged{0, "unified memory", 16 * kGiB}),
              ElementsAre("stop idle: over_budget"));
  EXPECT_THAT(tell(PoolChanged{0, "unified memory", 8 * kGiB}), IsEmpty());
  EXPECT_THAT(request(2, "busy"), ElementsAre("reject 2 model_too_large"));
  EXPECT_THAT(tell(RequestEnded{1}), ElementsAre("stop busy: over_budget"));
}

TEST_F(SwapTest, GroupsThatExcludeEachOtherAreNeverLoadedAtOnce) {
  tell(GroupsChanged{{{"work", "play"}}});
  auto work = model("work", 4);
  work.group = "work";
  auto play = model("play", 4);
  play.group = "play";
  load(work);
  add(play);
  EXPECT_THAT(request(1, "play"), ElementsAre("stop work for play"));
  EXPECT_THAT(stopped("work"), ElementsAre("start play"));
  EXPECT_THAT(request(2, "work"), IsEmpty()) << "play is still loading";
  EXPECT_THAT(ready("play"), ElementsAre("dispatch 1 to play"));
  EXPECT_THAT(tell(Pin{"play"}), ElementsAre("reject 2 blocked_by_pin"));
  EXPECT_THAT(request(3, "work"), ElementsAre("reject 3 blocked_by_pin"));
}

}  // namespace
}  // namespace yoke::scheduler
