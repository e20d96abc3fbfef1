#include "cli/api_error.h"

#include <gtest/gtest.h>

namespace yoke::cli {
namespace {

constexpr std::string_view kServer = "http://box:1";

TEST(ApiError, TakesTheServersMessage) {
  const Error error = error_of_reply(
      503, R"({"error":{"message":"It is loading.","type":"x","code":"model_loading"}})", kServer);
  EXPECT_EQ(error.code, kServerError);
  EXPECT_EQ(error.message, "It is loading.");
  EXPECT_EQ(error_of_reply(500, R"({"error":"broken"})", kServer).message, "broken");
}

TEST(ApiError, KnowsAnUnknownModel) {
  const Error error =
      error_of_reply(404, R"({"error":{"message":"No x.","code":"model_not_found"}})", kServer);
  EXPECT_EQ(error.code, kModelNotFound);
}

TEST(ApiError, SaysWhereAKeyGoes) {
  const Error error = error_of_reply(401, "", kServer);
  EXPECT_EQ(error.code, kApiKeyRefused);
  EXPECT_NE(error.hint.find("YOKE_API_KEY"), std::string::npos);
}

TEST(ApiError, DoubtsThatItIsYoke) {
  for (const char* body : {"<html>", "", R"({"error":{"message":"Not here","code":404}})"}) {
    const Error error = error_of_reply(404, body, kServer);
    EXPECT_EQ(error.message,
              "http://box:1 answered 404 Not Found, which no Yoke server of this version does.");
  }
}

}  // namespace
}  // namespace yoke::cli
