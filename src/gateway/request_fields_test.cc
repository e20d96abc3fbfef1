#include "gateway/request_fields.h"

#include <gtest/gtest.h>

#include "base/json_fields.h"

namespace yoke::gateway {
namespace {

TEST(RequestFields, FindsModelAndStreamAtTheTopOnly) {
  const auto fields = read_request_fields(R"({
    "messages": [{"role": "user", "model": "inner", "content": "\"model\": \"fake\""}],
    "metadata": {"model": "inner", "stream": true},
    "model": "a\u00e9/b:c", "temperature": 0.5, "stream": false, "n": 1, "stop": null})");
  ASSERT_TRUE(fields) << fields.error().text();
  EXPECT_EQ(fields->model, "a\u00e9/b:c");
  EXPECT_FALSE(fields->stream);
}

TEST(RequestFields, ReadsStream) {
  EXPECT_TRUE(read_request_fields(R"({"stream":true,"model":"m"})")->stream);
  EXPECT_TRUE(read_request_fields(R"({"model":"m","stream":true})")->stream);
  EXPECT_FALSE(read_request_fields(R"({"model":"m","stream":null})")->stream);
}

TEST(RequestFields, KnowsWhenSeveralAnswersMayCome) {
  const auto several = [](const char* body) { return read_request_fields(body)->several_choices; };
  EXPECT_TRUE(several(R"({"n":2})"));
  EXPECT_TRUE(several(R"({"prompt":["a"]})"));
  EXPECT_FALSE(several(R"({"n":1,"prompt":"a","stop":["b"],"messages":[{"n":2,"prompt":[]}]})"));
}

TEST(RequestFields, ReadsTheWishForProgress) {
  EXPECT_TRUE(read_request_fields(R"({"return_progress":true})")->wants_progress);
  EXPECT_FALSE(read_request_fields(R"({"return_progress":false})")->wants_progress);
}

TEST(RequestFields, TheModelMayBeAbsent) {
  EXPECT_EQ(read_request_fields("{}")->model, std::nullopt);
  EXPECT_EQ(read_request_fields(R"({"model":null})")->model, std::nullopt);
  EXPECT_EQ(read_request_fields(R"({"model":""})")->model, "");
}

TEST(RequestFields, TheLastOfTwoModelsCounts) {
  EXPECT_EQ(read_request_fields(R"({"model":"a","model":"b"})")->model, "b");
}

TEST(RequestFields, RefusesWhatIsNoObjectOfThisKind) {
  for (const char* body :
       {"", "null", "[]", "\"model\"", "{\"model\":1}", "{\"model\":{}}", "{\"model\":\"a\"",
        "{\"model\":\"a\"} {}", "{'model':'a'}", "not json", "{\"a\":\"\x01\"}", "\xff\xfe{}"}) {
    const auto fields = read_request_fields(body);
    ASSERT_FALSE(fields) << body;
    EXPECT_EQ(fields.error().code, kInvalidJson);
  }
}

TEST(RequestFields, IsBoundedInDepthAndInTheModelsLength) {
  const std::string deep = "{\"a\":" + std::string(100'000, '[') + std::string(100'000, ']') + "}";
  EXPECT_FALSE(read_request_fields(deep));
  const std::string name(5'000'000, 'm');
  const auto fields = read_request_fields("{\"model\":\"" + name + "\"}");
  ASSERT_TRUE(fields);
  EXPECT_LT(fields->model->size(), name.size());
}

}  // namespace
}  // namespace yoke::gateway
