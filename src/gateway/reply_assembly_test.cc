#include "gateway/reply_assembly.h"

#include <gtest/gtest.h>

#include "base/json_fields.h"

namespace yoke::gateway {
namespace {

boost::json::value parsed(std::string_view text) { return parse_json(text).value(); }

boost::json::value assembled(std::initializer_list<const char*> events) {
  ReplyAssembly reply;
  for (const char* event : events) {
    const auto added = reply.add(event);
    EXPECT_TRUE(added) << event << ": " << added.error().text();
  }
  return parsed(reply.text());
}

TEST(ReplyAssembly, AChat) {
  EXPECT_EQ(
      assembled(
          {R"({"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],
              "created":1,"id":"c","model":"m","system_fingerprint":"b","object":"chat.completion.chunk"})",
           R"({"choices":[{"finish_reason":null,"index":0,"delta":{"reasoning_content":"Hm"}}],"object":"chat.completion.chunk"})",
           R"({"choices":[{"finish_reason":null,"index":0,"delta":{"reasoning_content":"m."}}],"object":"chat.completion.chunk"})",
           R"({"choices":[{"finish_reason":null,"index":0,"delta":{"content":"Par"}}],"object":"chat.completion.chunk"})",
           R"({"choices":[{"finish_reason":null,"index":0,"delta":{"content":"is"}}],"object":"chat.completion.chunk"})",
           R"({"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"object":"chat.completion.chunk"})",
           R"({"choices":[],"usage":{"total_tokens":7},"timings":{"prompt_ms":1.5},"object":"chat.completion.chunk"})"}),
      parsed(R"({"choices":[{"finish_reason":"stop","index":0,"message":{"role":"assistant",
                 "reasoning_content":"Hmm.","content":"Paris"}}],"created":1,"id":"c","model":"m",
                 "system_fingerprint":"b","object":"chat.completion","usage":{"total_tokens":7},
                 "timings":{"prompt_ms":1.5}})"));
}

TEST(ReplyAssembly, AnAnswerWithoutTextHasAnEmptyOne) {
  const auto reply = assembled(
      {R"({"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"object":"chat.completion.chunk"})"});
  EXPECT_EQ(reply.at("choices").at(0).at("message").at("content"), "");
}

TEST(ReplyAssembly, ToolCalls) {
  const auto reply = assembled(
      {R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f"}}]}}],"object":"chat.completion.chunk"})",
       R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\""}}]}}],"object":"chat.completion.chunk"})",
       R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}}],"object":"chat.completion.chunk"})",
       R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"name":"g"}}]}}],"object":"chat.completion.chunk"})",
       R"({"choices":[{"index":0,"finish_reason":"tool_calls","delta":{}}],"object":"chat.completion.chunk"})"});
  const auto& message = reply.at("choices").at(0).at("message");
  EXPECT_EQ(message.at("tool_calls"), parsed(R"([
      {"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},
      {"type":"function","function":{"name":"g","arguments":""}}])"));
  EXPECT_EQ(message.at("content"), "");
}

TEST(ReplyAssembly, ATextWithProbabilities) {
  const auto reply = assembled(
      {R"({"choices":[{"text":"a","index":0,"logprobs":{"content":[{"id":1}]},"finish_reason":null}],"object":"text_completion","id":"i"})",
       R"({"choices":[{"text":"b","index":0,"logprobs":{"content":[{"id":2}]},"finish_reason":null}],"object":"text_completion","id":"i"})",
       R"({"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"length"}],"object":"text_completion","id":"i","usage":{"total_tokens":3}})"});
  EXPECT_EQ(reply, parsed(R"({"choices":[{"text":"ab","index":0,"finish_reason":"length",
      "logprobs":{"content":[{"id":1},{"id":2}]}}],"object":"text_completion","id":"i",
      "usage":{"total_tokens":3}})"));
}

TEST(ReplyAssembly, SeveralAnswersInTheirOrderWithTheUsageOfTheFirst) {
  const auto reply = assembled(
      {R"({"choices":[{"index":1,"delta":{"content":"b"},"finish_reason":"stop"}],"object":"chat.completion.chunk"})",
       R"({"choices":[],"usage":{"total_tokens":1},"object":"chat.completion.chunk"})",
       R"({"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}],"object":"chat.completion.chunk"})",
       R"({"choices":[],"usage":{"total_tokens":2},"object":"chat.completion.chunk"})",
       R"({"choices":[{"index":2,"delta":{"content":"c"},"finish_reason":"stop"}],"object":"chat.completion.chunk"})",
       R"({"choices":[],"usage":{"total_tokens":3},"object":"chat.completion.chunk"})"});
  ASSERT_EQ(reply.at("choices").as_array().size(), 3u);
  EXPECT_EQ(reply.at("choices").at(2).at("message").at("content"), "c");
  EXPECT_EQ(reply.at("usage").at("total_tokens"), 2);
}

TEST(ReplyAssembly, RefusesWhatIsNoEventOfSuchAStream) {
  for (const char* event :
       {"", "[]", "1", "{", R"({"choices":[1]})", R"({"choices":[{"delta":1}]})",
        R"({"choices":[{"delta":{"tool_calls":1}}]})",
        R"({"choices":[{"delta":{"tool_calls":[1]}}]})"}) {
    ReplyAssembly reply;
    EXPECT_FALSE(reply.add(event)) << event;
  }
}

}  // namespace
}  // namespace yoke::gateway
