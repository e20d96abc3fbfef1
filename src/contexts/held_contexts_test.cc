#include "contexts/held_contexts.h"

#include <gtest/gtest.h>

#include "contexts/test_support.h"

namespace yoke::contexts {
namespace {

using testing::numbers;

SavedContext context(const std::string& file, Tokens tokens) {
  return {file, 1000, std::make_shared<const Tokens>(std::move(tokens)), {}};
}

std::string claimed(HeldContexts& held, const std::vector<SavedContext>& saved, Tokens prompt) {
  const auto found = held.claim(saved, std::move(prompt));
  return found ? found->file : "";
}

TEST(HeldContexts, GiveTheLongestThatThePromptBeginsWith) {
  HeldContexts held;
  const std::vector saved{context("a", numbers(0, 400)), context("b", numbers(0, 800)),
                          context("c", numbers(7, 900))};
  EXPECT_EQ(claimed(held, saved, numbers(0, 1000)), "b");
}

TEST(HeldContexts, GiveNoneTwice) {
  HeldContexts held;
  const std::vector saved{context("a", numbers(0, 800))};
  EXPECT_EQ(claimed(held, saved, numbers(0, 1000)), "a");
  EXPECT_TRUE(held.knows_all(saved));
  EXPECT_EQ(claimed(held, saved, numbers(0, 1000)), "");
}

TEST(HeldContexts, GiveOneAgainThatNobodyRestored) {
  HeldContexts held;
  const std::vector saved{context("a", numbers(0, 800))};
  EXPECT_EQ(claimed(held, saved, numbers(0, 500)), "a");
  held.give_up("a");
  EXPECT_FALSE(held.knows_all(saved));
  // Of the first 500 the engine has computed its own.
  EXPECT_EQ(claimed(held, saved, numbers(0, 500)), "");
  EXPECT_EQ(claimed(held, saved, numbers(0, 700)), "a");
}

TEST(HeldContexts, GiveNoneThatIsNotWorthIt) {
  HeldContexts held;
  EXPECT_EQ(claimed(held, {context("short", numbers(0, 255))}, numbers(0, 255)), "");
  EXPECT_EQ(claimed(held, {context("other", numbers(100, 500))}, numbers(0, 500)), "");
  EXPECT_EQ(claimed(held, {context("a beginning", numbers(0, 300))}, numbers(0, 5000)), "");
  Tokens mostly_other = numbers(0, 300);
  mostly_other.resize(5000, 1);
  EXPECT_EQ(claimed(held, {context("for others", mostly_other)}, numbers(0, 310)), "");
}

TEST(HeldContexts, GiveNoneThatTheEngineHasAnyway) {
  HeldContexts held;
  held.add(std::make_shared<const Tokens>(numbers(0, 800)));
  EXPECT_EQ(claimed(held, {context("a", numbers(0, 800))}, numbers(0, 1000)), "");
  EXPECT_EQ(claimed(held, {context("b", numbers(0, 900))}, numbers(0, 1200)), "");  // Seen above.
  held.settle("c");
  EXPECT_EQ(claimed(held, {context("c", numbers(50, 800))}, numbers(50, 900)), "");
}

TEST(HeldContexts, GiveTheIdleSlotThatHoldsLeast) {
  HeldContexts held;
  const std::vector<Slot> slots{{.id = 0, .busy = true, .tokens = 0},
                                {.id = 1, .tokens = 500, .task = 3},
                                {.id = 2, .tokens = 20, .task = 4},
                                {.id = 3, .tokens = 30, .task = 5}};
  EXPECT_EQ(held.claim_slot(slots)->id, 2);
  EXPECT_EQ(held.claim_slot(slots)->id, 3);
  EXPECT_EQ(held.claim_slot(slots)->id, 1);
  EXPECT_FALSE(held.claim_slot(slots));
  held.release_slot(3);
  EXPECT_EQ(held.claim_slot(slots)->id, 3);
}

TEST(HeldContexts, KnowWhatWasRestoredIntoASlot) {
  HeldContexts held;
  held.mark_saved({.id = 0, .tokens = 900});
  const std::vector<Slot> slots{{.id = 0}, {.id = 1, .tokens = 10, .task = 1}};
  EXPECT_EQ(held.claim_slot(slots)->id, 1);
  EXPECT_EQ(held.claim_slot(slots)->tokens, 900);
  held.release_slot(0);
  held.release_slot(1);
  held.forget_restored();
  EXPECT_EQ(held.claim_slot(slots)->id, 0);
}

TEST(HeldContexts, KnowWhatIsSaved) {
  HeldContexts held;
  held.mark_saved({.id = 1, .tokens = 900, .task = 7});
  EXPECT_TRUE(held.is_saved({.id = 1, .tokens = 900, .task = 7}));
  EXPECT_FALSE(held.is_saved({.id = 1, .tokens = 901, .task = 7}));
  EXPECT_FALSE(held.is_saved({.id = 1, .tokens = 900, .task = 8}));
  EXPECT_FALSE(held.is_saved({.id = 2, .tokens = 900, .task = 7}));
}

}  // namespace
}  // namespace yoke::contexts
