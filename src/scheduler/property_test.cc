// Random events, millions of them: what the scheduler promises holds whatever happens.
#include <chrono>
#include <cstdlib>
#include <iostream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scheduler/simulated_world.h"

namespace yoke::scheduler {
namespace {

using Limits = SimulatedWorld::Limits;
using Outcome = SimulatedWorld::Outcome;

// YOKE_PROPERTY_SEEDS: more than usual, for a long look.
std::uint64_t seeds() {
  const char* text = std::getenv("YOKE_PROPERTY_SEEDS");
  return text == nullptr ? 60 : std::strtoull(text, nullptr, 10);
}

void hold_for_all_seeds(Limits limits) {
  Outcome all;
  const auto begun = std::chrono::steady_clock::now();
  for (std::uint64_t seed = 1; seed <= seeds(); ++seed) {
    const Outcome outcome = SimulatedWorld(seed, limits).run();
    ASSERT_THAT(outcome.broken_promises, testing::IsEmpty()) << "seed " << seed;
    all.steps += outcome.steps;
    all.requests += outcome.requests;
    all.dispatched += outcome.dispatched;
    all.rejected += outcome.rejected;
    all.starts += outcome.starts;
    all.evictions += outcome.evictions;
    all.turns += outcome.turns;
    all.longest_wait = std::max(all.longest_wait, outcome.longest_wait);
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
  std::cout << seeds() << " seeds, " << all.steps << " steps in " << took.count()
            << " s: " << all.requests << " requests, " << all.dispatched << " dispatched, "
            << all.rejected << " rejected, " << all.starts << " starts, " << all.evictions
            << " evictions, " << all.turns << " long waits, the longest "
            << all.longest_wait.count() << " ms\n";
  // It was not an idle world.
  EXPECT_GT(all.dispatched, all.steps / 10);
  EXPECT_GT(all.evictions, all.steps / 200);
}

TEST(SchedulerProperties, NobodyStarvesWhereEnginesWork) { hold_for_all_seeds({}); }

TEST(SchedulerProperties, NobodyStarvesWhereModelsHaveFewSlots) {
  hold_for_all_seeds({.slots = true});
}

TEST(SchedulerProperties, PromisesHoldWhereEnginesFailAndUsersMeddle) {
  hold_for_all_seeds({.wild = true});
  hold_for_all_seeds({.wild = true, .slots = true});
}

TEST(SchedulerProperties, TheSameEventsHaveTheSameEffects) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    const Limits limits{.wild = true, .slots = seed % 2 == 0};
    const Outcome first = SimulatedWorld(seed, limits).run();
    EXPECT_EQ(first.fingerprint, SimulatedWorld(seed, limits).run().fingerprint);
    EXPECT_NE(first.fingerprint, SimulatedWorld(seed + 100, limits).run().fingerprint);
  }
}

}  // namespace
}  // namespace yoke::scheduler
