#include "gateway/api_error.h"

#include <gtest/gtest.h>

#include "base/json_fields.h"
#include "supervisor/control_loop.h"

namespace yoke::gateway {
namespace {

TEST(ApiError, HasOpenAisForm) {
  const Error error{supervisor::kModelNotFound, "There is no model \"x\".", "Did you mean 'y'?"};
  const ErrorReply reply = error_reply(error);
  EXPECT_EQ(reply.head.status, 404);
  EXPECT_EQ(reply.head.headers.get("Content-Type"), "application/json");
  const auto body = parse_json(reply.body).value();
  const auto fields = JsonFields::of(body).value().object("error").value();
  EXPECT_EQ(fields.string("message"), "There is no model \"x\". Did you mean 'y'?");
  EXPECT_EQ(fields.string("type"), "invalid_request_error");
  EXPECT_EQ(fields.string("code"), "model_not_found");
}

TEST(ApiError, SaysWhenToTryAgain) {
  EXPECT_EQ(error_reply({supervisor::kModelLoading, "x"}).head.headers.get("Retry-After"), "5");
  EXPECT_EQ(error_reply({kInvalidApiKey, "x"}).head.headers.get("WWW-Authenticate"), "Bearer");
}

TEST(ApiError, AnUnknownCodeIsTheServersFault) {
  EXPECT_EQ(status_of(ErrorCode{"never_heard_of"}), 500);
}

}  // namespace
}  // namespace yoke::gateway
