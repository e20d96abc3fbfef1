#include "gateway/sent_reply.h"

#include <gtest/gtest.h>

namespace yoke::gateway {
namespace {

SentReply recorded(std::initializer_list<std::string_view> events) {
  SentReply sent;
  for (const std::string_view event : events) sent.record("data: " + std::string(event) + "\n\n");
  return sent;
}

constexpr std::string_view kRole =
    R"({"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],)"
    R"("created":17,"id":"chatcmpl-1","model":"m","object":"chat.completion.chunk"})";

TEST(SentReply, KeepsTheTextWithItsEscapes) {
  const SentReply sent =
      recorded({kRole, R"({"choices":[{"delta":{"content":"a\"\\"}}],"id":"chatcmpl-1"})",
                R"({"choices":[{"delta":{"content":"\n\u00e9"}}],"id":"chatcmpl-1"})"});
  EXPECT_EQ(sent.text(), R"(a\"\\\n\u00e9)");
  EXPECT_EQ(sent.text_events(), 2u);
  EXPECT_EQ(sent.id(), R"("chatcmpl-1")");
  EXPECT_EQ(sent.created(), "17");
  EXPECT_TRUE(sent.begun());
  EXPECT_FALSE(sent.finished() || sent.complete() || sent.has_tool_call() || sent.has_usage());
}

TEST(SentReply, TellsReasoningFromText) {
  const SentReply sent = recorded({R"({"choices":[{"delta":{"reasoning_content":"hm"}}]})",
                                   R"({"choices":[{"delta":{"content":"so"}}]})"});
  EXPECT_EQ(sent.reasoning(), "hm");
  EXPECT_EQ(sent.text(), "so");
}

TEST(SentReply, ReadsVllmsEvents) {
  const SentReply sent = recorded(
      {R"({"id":"chatcmpl-1","object":"chat.completion.chunk","created":17,"model":"m","choices":[)"
       R"({"index":0,"delta":{"role":"assistant","content":"","tool_calls":[]},"logprobs":null,)"
       R"("finish_reason":null}],"usage":null,"prompt_token_ids":null})",
       R"({"id":"chatcmpl-1","object":"chat.completion.chunk","created":17,"choices":[)"
       R"({"index":0,"delta":{"reasoning":"hm","reasoning_content":"hm"},"finish_reason":null}]})",
       R"({"id":"chatcmpl-1","choices":[{"index":0,"delta":{"reasoning":"!"}}]})",
       R"({"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"so"},"logprobs":{"content":[)"
       R"({"token":"so","logprob":-0.1}]},"finish_reason":null,"stop_reason":null,"token_ids":null}]})"});
  EXPECT_EQ(sent.id(), "\"chatcmpl-1\"");
  EXPECT_EQ(sent.created(), "17");
  EXPECT_EQ(sent.reasoning(), "hm!");
  EXPECT_EQ(sent.text_events(), 3u);
  EXPECT_EQ(sent.text(), "so");
  EXPECT_FALSE(sent.has_tool_call() || sent.finished() || sent.has_usage());
}

TEST(SentReply, ReadsPlainCompletions) {
  EXPECT_EQ(
      recorded({R"({"choices":[{"text":"a","index":0,"finish_reason":null}],"id":"c"})"}).text(),
      "a");
}

TEST(SentReply, ATextThatLooksLikeAMarkIsText) {
  const SentReply sent = recorded(
      {R"({"choices":[{"delta":{"content":"\"finish_reason\":\"stop\",\"tool_calls\":"}}]})"});
  EXPECT_FALSE(sent.finished());
  EXPECT_FALSE(sent.has_tool_call());
  EXPECT_EQ(sent.text(), R"(\"finish_reason\":\"stop\",\"tool_calls\":)");
}

TEST(SentReply, KnowsHowFarTheAnswerIs) {
  SentReply sent = recorded({R"({"choices":[{"delta":{"tool_calls":[{"index":0}]}}]})",
                             R"({"choices":[{"finish_reason":"tool_calls","delta":{}}]})"});
  EXPECT_TRUE(sent.has_tool_call());
  EXPECT_TRUE(sent.finished());
  sent.record("data: {\"choices\":[],\"usage\":{\"total_tokens\":1}}\n\ndata: [DONE]\n\n");
  EXPECT_TRUE(sent.has_usage());
  EXPECT_TRUE(sent.complete());
}

TEST(SentReply, CommentsAreNoBeginning) {
  SentReply sent;
  sent.record(":\n\n:\n\n");
  EXPECT_FALSE(sent.begun());
}

TEST(SentReply, IsBounded) {
  SentReply sent;
  const std::string text(SentReply::kMaxText / 4, 'x');
  for (int i = 0; i < 100; ++i) {
    sent.record("data: {\"choices\":[{\"delta\":{\"content\":\"" + text + "\"}}]}\n\n");
  }
  EXPECT_TRUE(sent.too_long());
  EXPECT_EQ(sent.text(), "");
  sent.record("data: [DONE]\n\n");
  EXPECT_TRUE(sent.complete());
}

TEST(SentReply, SurvivesWhatIsNoEvent) {
  SentReply sent;
  for (const std::string_view events :
       {"", "data: ", "data: {\"content\":\"", "data: {\"content\":\"\\", "\n\n\n\n", "x",
        "data: {\"id\":\"\n\n", "data: {\"created\":\n\n"}) {
    sent.record(events);
  }
  EXPECT_FALSE(sent.complete());
}

}  // namespace
}  // namespace yoke::gateway
