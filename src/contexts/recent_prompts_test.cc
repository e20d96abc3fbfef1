#include "contexts/recent_prompts.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace yoke::contexts {
namespace {

constexpr std::string_view kChat = "/v1/chat/completions";

std::string body(const std::string& messages, std::size_t tools = 0) {
  return R"({"model":"m","messages":[)" + messages + R"(],"tools":")" + std::string(tools, 't') +
         R"(","stream":true})";
}

std::string long_text(char letter) { return std::string(5000, letter); }

TEST(RecentPrompts, GoTheNewestFirst) {
  RecentPrompts recent;
  EXPECT_FALSE(recent.add(kChat, body(long_text('a'))));
  EXPECT_FALSE(recent.add("/v1/completions", body(long_text('b'))));
  const auto taken = recent.take();
  ASSERT_EQ(taken.size(), 2u);
  EXPECT_EQ(taken[0]->target, "/v1/completions");
  EXPECT_EQ(taken[0]->body, body(long_text('b')));
  EXPECT_EQ(taken[1]->body, body(long_text('a')));
  EXPECT_TRUE(recent.take().empty());
  EXPECT_TRUE(recent.add(kChat, body(long_text('a') + "more")));
  EXPECT_EQ(recent.take().size(), 1u);
}

TEST(RecentPrompts, AreOneForEachConversation) {
  RecentPrompts recent;
  std::string messages = long_text('a');
  for (int turn = 0; turn < 40; ++turn) {
    messages += fmt::format(", question {} and its answer", turn);
    recent.add(kChat, body(messages, 3000));
    recent.add(kChat, body("Make a title of: " + messages, 0));
  }
  const auto taken = recent.take();
  ASSERT_EQ(taken.size(), 2u);
  EXPECT_EQ(taken[1]->body, body(messages, 3000));
}

TEST(RecentPrompts, StayWhereOneSharesOnlyItsBeginning) {
  RecentPrompts recent;
  recent.add(kChat, body(long_text('a') + long_text('b')));
  recent.add(kChat, body(long_text('a') + long_text('c')));
  EXPECT_EQ(recent.take().size(), 2u);
}

TEST(RecentPrompts, AreBounded) {
  RecentPrompts recent;
  recent.add(kChat, body("short"));
  recent.add(kChat, body(std::string(3u << 20, 'x')));
  EXPECT_TRUE(recent.take().empty());
  for (int i = 0; i < 40; ++i) {
    recent.add(kChat, body(std::string(3000, static_cast<char>('0' + i))));
  }
  EXPECT_EQ(recent.take().size(), 16u);
  RecentPrompts large;
  for (int i = 0; i < 12; ++i) {
    large.add(kChat, body(std::string((2u << 20) - 100, static_cast<char>('0' + i))));
  }
  EXPECT_EQ(large.take().size(), 8u);
}

}  // namespace
}  // namespace yoke::contexts
