#include "scheduler/eviction.h"

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scheduler/wait_queue.h"

namespace yoke::scheduler {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Optional;

TEST(Eviction, ManySmallOnesMayCostLessThanOneLargeOne) {
  const std::vector<Candidate> candidates{{10, {8}}, {3, {4}}, {3, {4}}, {1, {1}}};
  EXPECT_THAT(cheapest_set(candidates, {8}), Optional(ElementsAre(1, 2)));
  EXPECT_THAT(cheapest_set(candidates, {9}), Optional(ElementsAre(1, 2, 3)));
  EXPECT_THAT(cheapest_set(candidates, {10}), Optional(ElementsAre(0, 1)));
  EXPECT_THAT(cheapest_set(candidates, {0}), Optional(IsEmpty()));
  EXPECT_EQ(cheapest_set(candidates, {18}), std::nullopt);
}

TEST(Eviction, WhatFreesNothingOfThePoolInNeedStays) {
  const std::vector<Candidate> candidates{{1, {8}}, {5, {0, 8}}, {6, {8, 8}}};
  EXPECT_THAT(cheapest_set(candidates, {0, 4}), Optional(ElementsAre(1)));
  EXPECT_THAT(cheapest_set(candidates, {4, 4}), Optional(ElementsAre(0, 1)))
      << "as dear as the third one alone, and found first";
}

TEST(Eviction, CostGrowsWithTheLoadAndPriorityAndShrinksWithIdleTime) {
  using std::chrono::minutes;
  EXPECT_GT(eviction_cost(Duration(2000), Duration(0), 0),
            eviction_cost(Duration(1000), Duration(0), 0));
  EXPECT_GT(eviction_cost(Duration(1000), Duration(0), 0),
            eviction_cost(Duration(1000), minutes(5), 0));
  EXPECT_DOUBLE_EQ(eviction_cost(Duration(999), Duration(0), 1), 2);
  EXPECT_DOUBLE_EQ(eviction_cost(Duration(999), minutes(5), 0), 0.5);
}

double cost_of(const std::vector<Candidate>& candidates, const std::vector<std::size_t>& set) {
  double cost = 0;
  for (const std::size_t i : set) cost += candidates[i].cost;
  return cost;
}

// Tries every set.
std::optional<double> least_cost(const std::vector<Candidate>& candidates, const Amounts& missing) {
  std::optional<double> least;
  for (std::uint32_t set = 0; set < 1u << candidates.size(); ++set) {
    Amounts left = missing;
    double cost = 0;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      if ((set >> i & 1) == 0) continue;
      subtract(left, candidates[i].frees);
      cost += candidates[i].cost;
    }
    if (is_zero(left) && (!least || cost < *least)) least = cost;
  }
  return least;
}

struct Case {
  std::vector<Candidate> candidates;
  Amounts missing;
};

Case random_case(std::mt19937& random, std::size_t count) {
  Case made{{}, {random() % 60, random() % 30}};
  for (std::size_t i = 0; i < count; ++i) {
    made.candidates.push_back(
        {static_cast<double>(1 + random() % 50), {random() % 20, random() % 10}});
  }
  return made;
}

TEST(Eviction, IsExactForSmallNumbers) {
  std::mt19937 random(1);
  for (int round = 0; round < 500; ++round) {
    const Case made = random_case(random, 1 + random() % 11);
    const auto least = least_cost(made.candidates, made.missing);
    const auto found = cheapest_set(made.candidates, made.missing);
    ASSERT_EQ(found.has_value(), least.has_value());
    if (!least) continue;
    ASSERT_DOUBLE_EQ(cost_of(made.candidates, *found), *least);
  }
}

TEST(Eviction, HasAnAnswerWithinBoundedWorkForManyToo) {
  std::mt19937 random(2);
  for (int round = 0; round < 20; ++round) {
    const Case made = random_case(random, 200);
    const auto quick = cheapest_set(made.candidates, made.missing, 1);
    const auto found = cheapest_set(made.candidates, made.missing);
    ASSERT_TRUE(quick && found);
    EXPECT_LE(cost_of(made.candidates, *found), cost_of(made.candidates, *quick));
    Amounts left = made.missing;
    for (const std::size_t i : *quick) subtract(left, made.candidates[i].frees);
    EXPECT_TRUE(is_zero(left));
  }
}

Waiter waiter(RequestId id, int priority, int second) {
  return {id, priority, Time::max(), {Time(std::chrono::seconds(second)), id}};
}

TEST(WaitQueue, PriorityGoesFirstUntilSomebodyHasWaitedForTooLong) {
  WaitQueue queue;
  for (const auto& each : {waiter(1, 0, 1), waiter(2, 5, 2), waiter(3, 5, 3), waiter(4, 0, 0)}) {
    queue.push(each);
  }
  const Time now(std::chrono::seconds(4));
  const auto pop = [&](Duration too_long) { return queue.pop(now, too_long, {})->request; };
  EXPECT_EQ(queue.oldest(), waiter(4, 0, 0).place);
  EXPECT_EQ(pop(Duration(10'000)), 2u);
  EXPECT_EQ(pop(Duration(4'000)), 4u);
  EXPECT_EQ(pop(Duration(4'000)), 3u);
  EXPECT_EQ(pop(Duration(4'000)), 1u);
  EXPECT_EQ(queue.pop(now, Duration(0), {}), std::nullopt);
}

TEST(WaitQueue, ACutoffLetsTheOldAndTheFirstOnesPass) {
  WaitQueue queue;
  for (const auto& each : {waiter(1, 0, 1), waiter(2, 9, 2), waiter(3, 0, 3)}) queue.push(each);
  const Time now(std::chrono::seconds(4));
  const Cutoff old{{Time(std::chrono::seconds(2)), 0}, 0};
  EXPECT_EQ(queue.pop(now, Duration(10'000), old)->request, 1u);
  EXPECT_EQ(queue.pop(now, Duration(10'000), old), std::nullopt);
  EXPECT_EQ(queue.pop(now, Duration(10'000), Cutoff{{Time{}, 0}, 2})->request, 2u);
  EXPECT_EQ(queue.pop(now, Duration(10'000), Cutoff{{Time{}, 0}, 2}), std::nullopt);
}

TEST(WaitQueue, GivesUpThoseWhoseDeadlineIsOver) {
  WaitQueue queue;
  for (RequestId id = 1; id <= 3; ++id) {
    auto each = waiter(id, 0, 0);
    each.deadline = Time(std::chrono::seconds(id));
    queue.push(each);
  }
  EXPECT_EQ(queue.first_deadline(), Time(std::chrono::seconds(1)));
  EXPECT_EQ(queue.take_expired(Time(std::chrono::seconds(2))).size(), 2u);
  EXPECT_EQ(queue.first_deadline(), Time(std::chrono::seconds(3)));
  EXPECT_FALSE(queue.remove(1));
  EXPECT_TRUE(queue.remove(3));
  EXPECT_EQ(queue.first_deadline(), Time::max());
}

}  // namespace
}  // namespace yoke::scheduler
