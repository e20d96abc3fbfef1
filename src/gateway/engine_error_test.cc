#include "gateway/engine_error.h"

#include <gtest/gtest.h>

#include "gateway/api_error.h"
#include "scheduler/effects.h"
#include "supervisor/instance.h"

namespace yoke::gateway {
namespace {

ErrorCode code(int status, std::string_view body) { return engine_refusal("m", status, body).code; }

TEST(EngineError, ReadsLlamaServersErrors) {
  EXPECT_EQ(code(400, R"({"error":{"code":400,"message":"x","type":"invalid_request_error"}})"),
            kRefusedByEngine);
  EXPECT_EQ(code(400, R"({"error":{"message":"x","type":"exceed_context_size_error"}})"),
            kContextLengthExceeded);
  EXPECT_EQ(code(501, R"({"error":{"message":"x","type":"not_supported_error"}})"), kNotSupported);
  EXPECT_EQ(code(503, R"({"error":{"message":"Loading model","type":"unavailable_error"}})"),
            scheduler::kModelLoading);
  EXPECT_EQ(code(500, R"({"error":{"message":"x","type":"server_error"}})"), kEngineError);
}

TEST(EngineError, ReadsVllmsErrors) {
  const Error refused = engine_refusal(
      "m", 400, R"({"error":{"message":"No.","type":"BadRequestError","param":null,"code":400}})");
  EXPECT_EQ(refused.code, kRefusedByEngine);
  EXPECT_EQ(refused.message, "No.");
  const Error old = engine_refusal(
      "m", 400, R"({"object":"error","message":"No.","type":"BadRequestError","code":400})");
  EXPECT_EQ(old.code, kRefusedByEngine);
  EXPECT_EQ(old.message, "No.");
  EXPECT_EQ(
      code(400, R"({"error":{"message":"This model's maximum context length is 2048 tokens.",)"
                R"("type":"BadRequestError","code":400}})"),
      kContextLengthExceeded);
  EXPECT_EQ(code(500, R"({"error":{"message":"x","type":"InternalServerError","code":500}})"),
            kEngineError);
}

TEST(EngineError, TellsABrokenEngineFromABadRequest) {
  for (const char* message : {"decode() failed: vk::Queue::submit: ErrorDeviceLost",
                              "EngineCore encountered an issue. See stack trace (above)."}) {
    const std::string body = std::string(R"({"error":{"code":500,"message":")") + message + "\"}}";
    EXPECT_EQ(code(500, body), kEngineBroken) << message;
    EXPECT_EQ(code(400, body), kRefusedByEngine) << message;
    EXPECT_EQ(engine_refusal("m", 500, body).message, message);
  }
  EXPECT_EQ(code(500, R"({"error":{"code":500,"message":"Context size has been exceeded."}})"),
            kEngineError);
  EXPECT_EQ(code(503, R"({"error":{"message":"Compute error.","type":"unavailable_error"}})"),
            scheduler::kModelLoading);
  EXPECT_EQ(status_of(kEngineBroken), 503);
}

TEST(EngineError, SurvivesWhatIsNoErrorBody) {
  for (const char* body : {"", "oops", "[]", "{}", R"({"error":"Unauthorized"})", R"({"error":[]})",
                           R"({"object":"list"})"}) {
    EXPECT_EQ(code(500, body), kEngineError) << body;
    EXPECT_EQ(code(401, body), kRefusedByEngine) << body;
  }
}

TEST(EngineError, ReadsTheStatusInAnEvent) {
  EXPECT_EQ(status_in_error_event(R"({"error":{"code":400}})"), 400);
  EXPECT_EQ(status_in_error_event(R"({"error": {"message": "x", "code": 404}})"), 404);
  for (const char* event : {"", R"({"error":{}})", R"({"error":{"code":"x"}})",
                            R"({"error":{"code":99}})", R"({"error":{"code":)", R"("code": )"}) {
    EXPECT_EQ(status_in_error_event(event), 500) << event;
  }
}

}  // namespace
}  // namespace yoke::gateway
