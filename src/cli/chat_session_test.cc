#include "cli/chat_session.h"

#include <gtest/gtest.h>

namespace yoke::cli {
namespace {

TEST(ChatSession, AsksForAStreamWithUsage) {
  Sampling sampling;
  ASSERT_TRUE(sampling.set("seed", "3"));
  ChatSession session("m", "Be brief.", sampling);
  session.ask("Hi \"you\"\n");
  EXPECT_EQ(session.request_body(),
            R"({"model":"m","messages":[{"role":"system","content":"Be brief."},)"
            R"({"role":"user","content":"Hi \"you\"\n"}],"stream":true,)"
            R"("stream_options":{"include_usage":true},"seed":3})");
}

TEST(ChatSession, KeepsTheConversation) {
  ChatSession session("m", "", {});
  session.ask("one");
  session.settle("eins");
  session.ask("two");
  EXPECT_EQ(session.json(),
            R"({"model":"m","messages":[{"role":"user","content":"one"},)"
            R"({"role":"assistant","content":"eins"},{"role":"user","content":"two"}]})"
            "\n");
}

TEST(ChatSession, TakesAQuestionWithoutAnyAnswerBack) {
  ChatSession session("m", "", {});
  session.ask("one");
  session.settle("");
  EXPECT_TRUE(session.empty());
}

TEST(ChatSession, ForgetsAllButTheSystemPrompt) {
  ChatSession session("m", "Be brief.", {});
  session.ask("one");
  session.settle("eins");
  session.clear();
  EXPECT_EQ(session.markdown(), "# Conversation with m\n\n## System\n\nBe brief.\n");
}

}  // namespace
}  // namespace yoke::cli
