#include "models/retry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/pull.h"

namespace yoke::models {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::Not;
using Clock = Retry::Clock;

constexpr RetryLimits kLimits{
    .without_progress = 10s, .first_pause = 250ms, .longest_pause = 4s, .longest_wait = 300s};

TEST(Retry, PausesGrowAndEnd) {
  Clock::time_point now{};
  Retry retry(kLimits, now);
  std::vector<Clock::duration> pauses;
  while (const auto next = retry.next(now, {})) {
    pauses.push_back(*next - now);
    now = *next;
    ASSERT_LT(pauses.size(), 20u);
  }
  EXPECT_THAT(pauses, ::testing::ElementsAre(250ms, 500ms, 1s, 2s, 4s));
}

TEST(Retry, ProgressBeginsAnew) {
  Clock::time_point now{};
  Retry retry(kLimits, now);
  for (int i = 0; i < 100; ++i) {
    now += 9s;
    ASSERT_TRUE(retry.next(now, {}));
    retry.progressed(now);
  }
  EXPECT_EQ(*retry.next(now, {}) - now, 250ms);
}

TEST(Retry, WhatAServerAsksForIsGranted) {
  Clock::time_point now{};
  Retry retry(kLimits, now);
  EXPECT_EQ(*retry.next(now, 200s) - now, 200s);
  now += 200s;
  EXPECT_EQ(*retry.next(now, 0s) - now, 500ms);
  // But not without end.
  EXPECT_FALSE(retry.next(now, 101s));
  EXPECT_FALSE(Retry(kLimits, now).next(now, 86400s));
}

Subject hub_subject(bool token) {
  return {"hf:org/repo", "https://hub/org/repo", "https://hub/org/repo", token};
}

HttpEnd ended(int status, std::string code = {}) {
  HttpEnd end;
  end.head.status = status;
  end.head.error_code = std::move(code);
  end.last_url = "https://hub/org/repo";
  return end;
}

TEST(MayPass, ByStatus) {
  for (const int status : {408, 429, 500, 502, 503, 504}) {
    EXPECT_TRUE(may_pass(ended(status), hub_subject(false))) << status;
  }
  for (const int status : {400, 401, 403, 404, 410, 416}) {
    EXPECT_FALSE(may_pass(ended(status), hub_subject(false))) << status;
  }
}

TEST(MayPass, ASignatureThatExpired) {
  HttpEnd end = ended(403);
  end.last_url = "https://files/x?signature=y";
  EXPECT_TRUE(may_pass(end, hub_subject(false)));
}

TEST(MayPass, TheNetwork) {
  HttpEnd end;
  end.problem = "Could not resolve host: hub";
  EXPECT_TRUE(may_pass(end, hub_subject(false)));
  end.remedy = "Set SSL_CERT_FILE.";
  EXPECT_FALSE(may_pass(end, hub_subject(false)));
  EXPECT_EQ(error_of(end, hub_subject(false)).hint, "Set SSL_CERT_FILE.");
  EXPECT_THAT(error_of(end, hub_subject(false)).message, HasSubstr("Could not resolve host"));
}

TEST(ErrorOf, SaysWhatToDo) {
  const Error gated = error_of(ended(401, "GatedRepo"), hub_subject(false));
  EXPECT_EQ(gated.code, kHubRefused);
  EXPECT_THAT(gated.hint, HasSubstr("https://hub/org/repo"));
  EXPECT_THAT(gated.hint, HasSubstr("HF_TOKEN"));
  const Error hidden = error_of(ended(401, "RepoNotFound"), hub_subject(false));
  EXPECT_THAT(hidden.text(), HasSubstr("no such model"));
  const Error refused = error_of(ended(401), hub_subject(true));
  EXPECT_THAT(refused.message, HasSubstr("did not accept the token"));
  EXPECT_EQ(error_of(ended(404), hub_subject(true)).code, kHubNotFound);
  const Error revision = error_of(ended(404, "RevisionNotFound"), hub_subject(true));
  EXPECT_THAT(revision.message, HasSubstr("no such revision"));
  EXPECT_EQ(error_of(ended(500), hub_subject(true)).code, kDownloadFailed);
}

TEST(ErrorOf, HoldsNoAddress) {
  HttpEnd end = ended(403);
  end.last_url = "https://files/x?signature=hidden";
  const Subject subject{"https://files/x", end.last_url, "", false};
  EXPECT_THAT(error_of(end, subject).text(), Not(HasSubstr("hidden")));
}

}  // namespace
}  // namespace yoke::models
