#include "gateway/continuation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json_fields.h"

namespace yoke::gateway {
namespace {

using testing::HasSubstr;

constexpr std::string_view kRole =
    R"(data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],)"
    R"("created":17,"id":"first"})"
    "\n\n";

SentReply sent(std::string_view delta) {
  SentReply reply;
  reply.record(kRole);
  reply.record("data: {\"choices\":[{\"delta\":" + std::string(delta) + "}],\"id\":\"first\"}\n\n");
  return reply;
}

EngineRequest chat(const std::string& fields) {
  return {R"({"messages":[{"role":"user","content":"hi"}],"stream":true)" + fields + "}",
          ReplyForm::kStream, RouteKind::kChat};
}

boost::json::value continued(const EngineRequest& request, const SentReply& reply,
                             std::int64_t tokens = 3) {
  const auto next = continue_request(request, reply, tokens);
  EXPECT_TRUE(next) << next.error().text();
  return parse_json(next->body).value();
}

TEST(Continuation, TheSentTextBecomesTheLastMessage) {
  const auto body =
      continued(chat(R"(,"max_tokens":10,"temperature":0.5)"), sent(R"({"content":"a\"\n"})"));
  EXPECT_EQ(body.at("messages").as_array().size(), 2u);
  EXPECT_EQ(body.at("messages").at(1),
            parse_json(R"({"role":"assistant","content":"a\"\n"})").value());
  EXPECT_EQ(body.at("continue_final_message"), true);
  EXPECT_EQ(body.at("add_generation_prompt"), false);
  EXPECT_EQ(body.at("max_tokens"), 7);
  EXPECT_EQ(body.at("temperature"), 0.5);
}

TEST(Continuation, ALimitIsNeverReducedToNothing) {
  EXPECT_EQ(continued(chat(R"(,"max_completion_tokens":3)"), sent(R"({"content":"a"})"))
                .at("max_completion_tokens"),
            1);
  EXPECT_EQ(continued(chat(R"(,"n_predict":-1)"), sent(R"({"content":"a"})")).at("n_predict"), -1);
}

TEST(Continuation, AThoughtIsTakenUpAgain) {
  const auto body = continued(chat(""), sent(R"({"reasoning_content":"hm"})"));
  EXPECT_EQ(body.at("messages").at(1),
            parse_json(R"({"role":"assistant","content":"","reasoning_content":"hm"})").value());
}

TEST(Continuation, AnAnswerThatTheClientBeganKeepsItsBeginning) {
  EngineRequest request{R"({"messages":[{"role":"user","content":"x"},
      {"role":"assistant","content":"Once"}]})",
                        ReplyForm::kStream, RouteKind::kChat};
  const auto repeated = continued(request, sent(R"({"content":"Once upon"})"));
  EXPECT_EQ(repeated.at("messages").as_array().size(), 2u);
  EXPECT_EQ(repeated.at("messages").at(1).at("content"), "Once upon");
  const auto silent = continued(request, sent(R"({"content":" upon"})"));
  EXPECT_EQ(silent.at("messages").at(1).at("content"), "Once upon");
}

TEST(Continuation, APlainCompletionGoesOnBehindItsPrompt) {
  SentReply reply;
  reply.record("data: {\"choices\":[{\"text\":\" two\"}],\"id\":\"c\"}\n\n");
  const EngineRequest request{R"({"prompt":"one","stream":true})", ReplyForm::kStream,
                              RouteKind::kCompletion};
  EXPECT_EQ(continued(request, reply).at("prompt"), "one two");
  const EngineRequest grammar{R"({"prompt":"one","grammar":"root ::= .*"})", ReplyForm::kStream,
                              RouteKind::kCompletion};
  EXPECT_FALSE(continue_request(grammar, reply, 1));
}

TEST(Continuation, WithoutAnyTextTheRequestIsTheSame) {
  SentReply reply;
  reply.record(kRole);
  const EngineRequest request = chat(R"(,"max_tokens":5)");
  EXPECT_EQ(continue_request(request, reply, 0)->body, request.body);
}

TEST(Continuation, RefusesWhatWouldNotBeOneAnswer) {
  const auto why = [](const EngineRequest& request, const SentReply& reply) {
    const auto next = continue_request(request, reply, 1);
    return next ? std::string() : next.error().message;
  };
  EXPECT_THAT(why(chat(""), sent(R"({"tool_calls":[{"index":0}]})")), HasSubstr("tool"));
  EngineRequest several = chat(R"(,"n":2)");
  several.form = ReplyForm::kAsIs;
  EXPECT_THAT(why(several, sent(R"({"content":"a"})")), HasSubstr("several"));
}

EngineRequest vllm_chat(const std::string& fields) {
  EngineRequest request = chat(fields);
  request.engine = engines::EngineKind::kVllm;
  return request;
}

TEST(Continuation, VllmTakesUpAChatByTheSameNames) {
  const auto body = continued(vllm_chat(R"(,"max_tokens":10,"min_tokens":2,"tools":[{}])"),
                              sent(R"({"content":"a"})"));
  EXPECT_EQ(body.at("messages").at(1), parse_json(R"({"role":"assistant","content":"a"})").value());
  EXPECT_EQ(body.at("continue_final_message"), true);
  EXPECT_EQ(body.at("add_generation_prompt"), false);
  EXPECT_EQ(body.at("max_tokens"), 7);
  EXPECT_EQ(body.at("min_tokens"), 0);
}

TEST(Continuation, VllmGoesOnFromTheLastMessageOnlyIfItIsTold) {
  const std::string messages = R"({"messages":[{"role":"assistant","content":"Once"}])";
  EngineRequest request{messages + "}", ReplyForm::kStream, RouteKind::kChat,
                        engines::EngineKind::kVllm};
  const auto answered = continued(request, sent(R"({"content":" upon"})"));
  EXPECT_EQ(answered.at("messages").as_array().size(), 2u);
  EXPECT_EQ(answered.at("messages").at(1).at("content"), " upon");
  request.body = messages + R"(,"continue_final_message":true,"echo":true})";
  const auto echoed = continued(request, sent(R"({"content":"Once upon"})"));
  EXPECT_EQ(echoed.at("messages").as_array().size(), 1u);
  EXPECT_EQ(echoed.at("messages").at(0).at("content"), "Once upon");
  EXPECT_EQ(echoed.at("echo"), false);
}

TEST(Continuation, VllmCanTakeUpNeitherAGrammarNorAThought) {
  const SentReply text = sent(R"({"content":"a"})");
  for (const char* fields :
       {R"(,"response_format":{"type":"json_object"})", R"(,"guided_json":{})",
        R"(,"guided_regex":"a*")", R"(,"structured_outputs":{"json":{}})",
        R"(,"tool_choice":"required")", R"(,"tool_choice":{"type":"function"})"}) {
    EXPECT_FALSE(continue_request(vllm_chat(fields), text, 1)) << fields;
  }
  for (const char* fields : {R"(,"response_format":{"type":"text"})", R"(,"guided_json":null)",
                             R"(,"tool_choice":"auto")"}) {
    EXPECT_TRUE(continue_request(vllm_chat(fields), text, 1)) << fields;
  }
  const SentReply thought = sent(R"({"reasoning":"hm"})");
  EXPECT_FALSE(continue_request(vllm_chat(""), thought, 1));
  EXPECT_TRUE(continue_request(chat(""), thought, 1));
}

TEST(Continuation, WhatTheClientBeganWithPartsCanNotGoOn) {
  const EngineRequest request{
      R"({"messages":[{"role":"assistant","content":[{"type":"text","text":"Once"}]}]})",
      ReplyForm::kStream, RouteKind::kChat};
  EXPECT_FALSE(continue_request(request, sent(R"({"content":" upon"})"), 1));
}

TEST(Continuation, ARepeatedPromptCanNotGoOn) {
  SentReply reply;
  reply.record("data: {\"choices\":[{\"text\":\"one two\"}],\"id\":\"c\"}\n\n");
  const EngineRequest request{R"({"prompt":"one","echo":true})", ReplyForm::kStream,
                              RouteKind::kCompletion};
  EXPECT_FALSE(continue_request(request, reply, 1));
}

TEST(Continuation, TheMissingEndCanBeSupplied) {
  SentReply reply = sent(R"({"content":"a"})");
  EXPECT_FALSE(lacks_only_its_end(chat(""), reply));
  reply.record("data: {\"choices\":[{\"finish_reason\":\"stop\",\"delta\":{}}]}\n\n");
  EXPECT_TRUE(lacks_only_its_end(chat(""), reply));
  EXPECT_FALSE(lacks_only_its_end(chat(R"(,"stream_options":{"include_usage":true})"), reply));
}

TEST(Seam, KeepsTheFirstEnginesIdAndTimeAndRole) {
  const Seam seam(sent(R"({"content":"a"})"), 3);
  const std::string joined = seam.join(
      "data: "
      "{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null}}],\"id\":\"second\"}\n\n"
      "data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}],\"created\":99,\"id\":\"second\"}\n\n"
      ":\n\ndata: [DONE]\n\n");
  EXPECT_EQ(
      joined,
      "data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}],\"created\":17,\"id\":\"first\"}\n\n"
      ":\n\ndata: [DONE]\n\n");
}

TEST(Seam, TellsTheRoleOnceForVllmToo) {
  const Seam seam(sent(R"({"content":"a"})"), 3);
  EXPECT_EQ(
      seam.join("data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"),
      "");
}

TEST(Seam, CountsAllTokensOnce) {
  const Seam seam(sent(R"({"content":"a"})"), 3);
  const std::string joined = seam.join(
      "data: {\"choices\":[],\"usage\":{\"completion_tokens\":5,\"prompt_tokens\":45,"
      "\"total_tokens\":50}}\n\n");
  const auto usage = parse_json(joined.substr(6))->at("usage");
  EXPECT_EQ(usage.at("completion_tokens"), 8);
  EXPECT_EQ(usage.at("prompt_tokens"), 42);
  EXPECT_EQ(usage.at("total_tokens"), 50);
}

}  // namespace
}  // namespace yoke::gateway
