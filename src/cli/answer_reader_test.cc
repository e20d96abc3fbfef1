#include "cli/answer_reader.h"

#include <gtest/gtest.h>

#include "cli/api_error.h"
#include "http/message.h"

namespace yoke::cli {
namespace {

using namespace std::chrono_literals;
using Clock = AnswerReader::Clock;

constexpr Clock::time_point kAsked{};

std::string delta_event(std::string_view content) {
  return R"({"choices":[{"index":0,"delta":{"content":")" + std::string(content) +
         R"("},"finish_reason":null}]})";
}

TEST(AnswerReader, PutsTheTextTogether) {
  AnswerReader reader(kAsked);
  EXPECT_FALSE(reader.begun());
  ASSERT_TRUE(
      reader.read(R"({"choices":[{"delta":{"role":"assistant","content":null}}]})", kAsked));
  EXPECT_FALSE(reader.begun());
  EXPECT_EQ(reader.read(delta_event("Hel"), kAsked + 1s)->text, "Hel");
  EXPECT_EQ(reader.read(delta_event("lo"), kAsked + 2s)->text, "lo");
  EXPECT_EQ(reader.finish_reason(), "");
  ASSERT_TRUE(reader.read(R"({"choices":[{"delta":{},"finish_reason":"stop"}]})", kAsked + 3s));
  ASSERT_TRUE(reader.read("[DONE]", kAsked + 3s));
  EXPECT_EQ(reader.text(), "Hello");
  EXPECT_EQ(reader.finish_reason(), "stop");
}

TEST(AnswerReader, KeepsReasoningApart) {
  AnswerReader reader(kAsked);
  const auto llama = reader.read(R"({"choices":[{"delta":{"reasoning_content":"hm"}}]})", kAsked);
  const auto vllm = reader.read(R"({"choices":[{"delta":{"reasoning":"so"}}]})", kAsked);
  EXPECT_EQ(llama->reasoning, "hm");
  EXPECT_EQ(vllm->reasoning, "so");
  EXPECT_TRUE(reader.begun());
  EXPECT_EQ(reader.text(), "");
}

TEST(AnswerReader, TakesTheServersCounts) {
  AnswerReader reader(kAsked);
  ASSERT_TRUE(reader.read(delta_event("a"), kAsked + 120ms));
  ASSERT_TRUE(reader.read(R"({"choices":[],"usage":{"prompt_tokens":31,"completion_tokens":42},)"
                          R"("timings":{"predicted_per_second":95.27}})",
                          kAsked + 1s));
  EXPECT_EQ(reader.stats().prompt_tokens, 31);
  EXPECT_EQ(reader.stats().describe(), "42 tokens, 95.3 tokens/s, first token after 120 ms");
}

TEST(AnswerReader, MeasuresWhatTheServerDoesNotSay) {
  AnswerReader reader(kAsked);
  for (int i = 1; i <= 5; ++i) ASSERT_TRUE(reader.read(delta_event("x"), kAsked + i * 100ms));
  // Four tokens in the 400 ms after the first one.
  EXPECT_EQ(reader.stats().describe(), "5 tokens, 10.0 tokens/s, first token after 100 ms");
}

TEST(AnswerReader, ReportsAnErrorInTheStream) {
  AnswerReader reader(kAsked);
  ASSERT_TRUE(reader.read(delta_event("a"), kAsked));
  const auto read = reader.read(
      R"({"error":{"message":"The engine died.","type":"server_error","code":"engine_failed"}})",
      kAsked);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, kServerError);
  EXPECT_EQ(read.error().message, "The engine died.");
  EXPECT_EQ(reader.text(), "a");
}

TEST(AnswerReader, RefusesEventsOfAnotherForm) {
  for (const char* bad : {"", "{", "[]", "7", R"({"choices":{}})", R"({"choices":[1]})"}) {
    AnswerReader reader(kAsked);
    const auto read = reader.read(bad, kAsked);
    ASSERT_FALSE(read) << bad;
    EXPECT_EQ(read.error().code, http::kBadResponse) << bad;
  }
}

TEST(StatsTotal, AddsUp) {
  StatsTotal total;
  EXPECT_EQ(total.describe(), "No answer so far.");
  total.add({.prompt_tokens = 10, .tokens = 1, .tokens_per_s = {}, .first_token = 5ms});
  total.add({.prompt_tokens = 20, .tokens = 2, .tokens_per_s = 8.0, .first_token = 5ms});
  EXPECT_EQ(total.describe(),
            "2 answers: 30 tokens in, 3 tokens out.\n"
            "The last one: 2 tokens, 8.0 tokens/s, first token after 5 ms.");
}

}  // namespace
}  // namespace yoke::cli
