#include "gateway/api_error.h"

#include <gtest/gtest.h>

#include "base/json_fields.h"
#include "config/config.h"
#include "scheduler/effects.h"

namespace yoke::gateway {
namespace {

using namespace std::chrono_literals;

TEST(ApiError, HasOpenAisForm) {
  const Error error{scheduler::kModelNotFound, "There is no model \"x\".", "Did you mean 'y'?"};
  const ErrorReply reply = error_reply(error);
  EXPECT_EQ(reply.head.status, 404);
  EXPECT_EQ(reply.head.headers.get("Content-Type"), "application/json");
  const auto body = parse_json(reply.body).value();
  const auto fields = JsonFields::of(body).value().object("error").value();
  EXPECT_EQ(fields.string("message"), "There is no model \"x\". Did you mean 'y'?");
  EXPECT_EQ(fields.string("type"), "invalid_request_error");
  EXPECT_EQ(fields.string("code"), "model_not_found");
}

std::optional<std::string> retry_after(
    ErrorCode code, std::optional<std::chrono::milliseconds> after = std::nullopt) {
  const ErrorReply reply = error_reply({code, "x", "", after});
  const auto header = reply.head.headers.get("Retry-After");
  return header ? std::optional(std::string(*header)) : std::nullopt;
}

TEST(ApiError, SaysWhenToTryAgain) {
  EXPECT_EQ(retry_after(scheduler::kModelLoading), "5");
  EXPECT_EQ(retry_after(scheduler::kModelBusy, 3s), "3");
  EXPECT_EQ(retry_after(scheduler::kModelBusy, 1ms), "1");
  EXPECT_EQ(retry_after(scheduler::kModelBusy, 2001ms), "3");
}

TEST(ApiError, DoesNotAskToTryAgainInVain) {
  EXPECT_EQ(retry_after(scheduler::kModelLoading, 0ms), std::nullopt);
  EXPECT_EQ(retry_after(scheduler::kModelTooLarge), std::nullopt);
  EXPECT_EQ(retry_after(scheduler::kBlockedByPin), std::nullopt);
  EXPECT_EQ(retry_after(kInvalidArgument), std::nullopt);
}

TEST(ApiError, WhatTheSchedulerSaysIsUnavailable) {
  for (const ErrorCode code :
       {scheduler::kModelLoading, scheduler::kModelBusy, scheduler::kModelTooLarge,
        scheduler::kBlockedByPin, scheduler::kModelUnloaded}) {
    EXPECT_EQ(status_of(code), 503) << code.name();
  }
}

TEST(ApiError, ABadConfigurationIsTheUsersToCorrect) {
  EXPECT_EQ(status_of(config::kConfigInvalid), 400);
  EXPECT_EQ(status_of(config::kConfigNotFound), 400);
  EXPECT_EQ(status_of(config::kApiKeyRequired), 400);
}

TEST(ApiError, AsksForTheKey) {
  EXPECT_EQ(error_reply({kInvalidApiKey, "x"}).head.headers.get("WWW-Authenticate"), "Bearer");
}

TEST(ApiError, AnUnknownCodeIsTheServersFault) {
  EXPECT_EQ(status_of(ErrorCode{"never_heard_of"}), 500);
}

}  // namespace
}  // namespace yoke::gateway
