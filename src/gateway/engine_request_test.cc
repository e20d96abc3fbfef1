#include "gateway/engine_request.h"

#include <gtest/gtest.h>

#include "base/json_fields.h"

namespace yoke::gateway {
namespace {

using engines::EngineKind;

EngineRequest made(RouteKind kind, const std::string& body,
                   EngineKind engine = EngineKind::kLlamaCpp) {
  return make_engine_request(kind, engine, read_request_fields(body).value(), body);
}

// The object as a parser reads it that lets the last of two members win.
boost::json::value parsed(const std::string& body) { return parse_json(body).value(); }

TEST(EngineRequest, AStreamIsAskedForProgress) {
  const EngineRequest request = made(RouteKind::kChat, R"({"model":"m","stream":true} )");
  EXPECT_EQ(request.form, ReplyForm::kStream);
  EXPECT_EQ(request.body, R"({"model":"m","stream":true,"return_progress":true})");
}

TEST(EngineRequest, AWholeReplyIsAskedForAsAStream) {
  const EngineRequest request = made(
      RouteKind::kCompletion, R"({"model":"m","prompt":"}","stream":false,"stream_options":null})");
  EXPECT_EQ(request.form, ReplyForm::kWhole);
  const boost::json::value body = parsed(request.body);
  EXPECT_EQ(body.at("prompt"), "}");
  EXPECT_EQ(body.at("stream"), true);
  EXPECT_EQ(body.at("stream_options").at("include_usage"), true);
  EXPECT_EQ(body.at("return_progress"), true);
}

TEST(EngineRequest, WhatTheRelayCouldNotTurnBackIsLeftAlone) {
  for (const char* body :
       {R"({"model":"m","stream":true,"n":2})", R"({"model":"m","stream":true,"prompt":["a","b"]})",
        R"({"model":"m","stream":true,"return_progress":true})"}) {
    const EngineRequest request = made(RouteKind::kCompletion, body);
    EXPECT_EQ(request.form, ReplyForm::kAsIs) << body;
    EXPECT_EQ(request.body, body);
  }
  const std::string tools = R"({"model":"m","tools":[],"logprobs":true})";
  EXPECT_EQ(made(RouteKind::kChat, tools).body, tools);
  const std::string embedding = R"({"model":"m","input":"a"})";
  EXPECT_EQ(made(RouteKind::kEmbedding, embedding).body, embedding);
  EXPECT_EQ(made(RouteKind::kRerank, embedding).form, ReplyForm::kAsIs);
}

TEST(EngineRequest, VllmGetsWhatTheClientSent) {
  for (const auto& [body, form] :
       {std::pair(R"({"model":"m","stream":true})", ReplyForm::kStream),
        std::pair(R"({"model":"m","stream":true,"n":2})", ReplyForm::kAsIs),
        std::pair(R"({"model":"m","stream":true,"tools":[],"logprobs":true})", ReplyForm::kStream),
        std::pair(R"({"model":"m"})", ReplyForm::kAsIs)}) {
    const EngineRequest request = made(RouteKind::kChat, body, EngineKind::kVllm);
    EXPECT_EQ(request.body, body);
    EXPECT_EQ(request.form, form) << body;
    EXPECT_EQ(request.engine, EngineKind::kVllm);
  }
}

}  // namespace
}  // namespace yoke::gateway
