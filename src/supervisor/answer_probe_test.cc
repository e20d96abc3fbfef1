#include "supervisor/answer_probe.h"

#include <map>
#include <memory>
#include <mutex>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json_fields.h"
#include "engines/capabilities.h"
#include "http/server.h"
#include "http/test_support.h"
#include "io/sleep.h"

namespace yoke::supervisor {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

struct Received {
  std::string target;
  std::string authorization;
  boost::json::value body;
};

struct Reply {
  int status = 200;
  std::string body{};
  std::chrono::milliseconds delay{0};
};

std::string tokens_reply(int count) {
  std::string list;
  for (int token = 0; token < count; ++token) {
    list += fmt::format("{}{}", token == 0 ? "" : ",", 1000 + token);
  }
  return "{\"tokens\":[" + list + "]}";
}

constexpr std::string_view kAnswer =
    R"({"completion_probabilities":[{"id":7,"logprob":0,"top_logprobs":[{"id":7,"logprob":0}]}]})";

// An engine that answers each path as the test says.
class AnswerProbe : public testing::Test {
 protected:
  AnswerProbe() : pool_(1) {
    replies_["/tokenize"] = {200, tokens_reply(200)};
    replies_["/completion"] = {200, std::string(kAnswer)};
    auto handler = [this](http::Exchange& exchange) { return serve(exchange, *this); };
    server_ = http::Server::start(pool_, {}, handler).value();
  }
  ~AnswerProbe() override { server_->stop(0ms); }

  static io::Task<void> serve(http::Exchange& exchange, AnswerProbe& test) {
    auto body = co_await exchange.read_body();
    if (!body) co_return;
    const auto& head = exchange.request();
    Reply reply;
    {
      const std::lock_guard lock(test.mutex_);
      test.received_.push_back({head.target,
                                std::string(head.headers.get("Authorization").value_or("")),
                                parse_json(*body).value_or(nullptr)});
      reply = test.replies_[head.target];
    }
    if (reply.delay > 0ms) {
      auto waiting = io::sleep_for(reply.delay);
      co_await std::move(waiting);
    }
    http::ResponseHead answer;
    answer.status = reply.status;
    answer.headers.set("Content-Type", "application/json");
    auto sending = exchange.reply(std::move(answer), std::move(reply.body));
    co_await std::move(sending);
  }

  Result<engines::FirstTokens> ask(int prompt_tokens, std::string key = {},
                                   std::chrono::milliseconds limit = 5s) {
    return http::testing::run_task(
        ask_first_tokens({"127.0.0.1", server_->port()}, std::move(key), prompt_tokens, limit));
  }

  void set_reply(const std::string& target, Reply reply) {
    const std::lock_guard lock(mutex_);
    replies_[target] = std::move(reply);
  }

  std::vector<Received> received() {
    const std::lock_guard lock(mutex_);
    return received_;
  }

  std::mutex mutex_;
  std::map<std::string, Reply> replies_;
  std::vector<Received> received_;
  io::ContextPool pool_;
  std::unique_ptr<http::Server> server_;
};

TEST_F(AnswerProbe, GivesTheFirstTokens) {
  const auto tokens = ask(96);
  ASSERT_TRUE(tokens) << tokens.error().message;
  EXPECT_EQ(tokens->prompt_tokens, 96);
  ASSERT_EQ(tokens->positions.size(), 1u);
  EXPECT_EQ(tokens->positions[0].taken, 7);
  EXPECT_EQ(tokens->positions[0].likeliest[0].probability, 1);
}

TEST_F(AnswerProbe, PutsExactlySoManyTokensToTheModel) {
  ASSERT_TRUE(ask(96));
  const auto requests = received();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[0].target, "/tokenize");
  EXPECT_EQ(requests[0].body.at("content").as_string(), engines::check_text(96));
  EXPECT_TRUE(requests[0].body.at("add_special").as_bool());
  EXPECT_EQ(requests[1].target, "/completion");
  const auto& prompt = requests[1].body.at("prompt").as_array();
  ASSERT_EQ(prompt.size(), 96u);
  EXPECT_EQ(prompt.front().to_number<int>(), 1000);
  EXPECT_EQ(prompt[83].to_number<int>(), 1083);
  EXPECT_EQ(prompt[84].to_number<int>(), 1004);  // Its beginning once more.
  EXPECT_EQ(prompt[95].to_number<int>(), 1015);
}

TEST_F(AnswerProbe, LetsTheModelSpeakForItself) {
  ASSERT_TRUE(ask(96));
  const boost::json::value body = received()[1].body;
  EXPECT_EQ(body.at("temperature").to_number<double>(), 0);
  EXPECT_EQ(body.at("samplers"), boost::json::array{"temperature"});
  EXPECT_GE(body.at("n_probs").to_number<int>(), 10);
  EXPECT_GE(body.at("n_predict").to_number<int>(), 4);
  EXPECT_FALSE(body.at("post_sampling_probs").as_bool());
  EXPECT_FALSE(body.at("cache_prompt").as_bool());
  EXPECT_TRUE(body.at("ignore_eos").as_bool());
}

TEST_F(AnswerProbe, ShowsTheKeyWhereThereIsOne) {
  ASSERT_TRUE(ask(96, "secret"));
  ASSERT_TRUE(ask(96));
  const auto requests = received();
  EXPECT_EQ(requests[0].authorization, "Bearer secret");
  EXPECT_EQ(requests[1].authorization, "Bearer secret");
  EXPECT_EQ(requests[2].authorization, "");
}

TEST_F(AnswerProbe, NeedsEnoughTokens) {
  set_reply("/tokenize", {200, tokens_reply(95)});
  const auto tokens = ask(96);
  ASSERT_FALSE(tokens);
  EXPECT_EQ(tokens.error().code, engines::kEngineUnusable);
  EXPECT_THAT(tokens.error().message, HasSubstr("95 tokens"));
  EXPECT_EQ(received().size(), 1u);
}

TEST_F(AnswerProbe, SaysWhatTheEngineRefused) {
  set_reply("/completion", {500, R"({"error":{"message":"Compute error."}})"});
  const auto tokens = ask(96, "secret");
  ASSERT_FALSE(tokens);
  EXPECT_EQ(tokens.error().code, engines::kEngineUnusable);
  EXPECT_THAT(tokens.error().message, HasSubstr("status 500"));
  EXPECT_THAT(tokens.error().message, HasSubstr("Compute error."));
}

TEST_F(AnswerProbe, TakesNothingThatIsNoAnswer) {
  for (const std::string_view bad :
       {"", "oops", "[]", "{\"tokens\":7}", "{\"tokens\":null}", R"({"tokens":["a"]})"}) {
    set_reply("/tokenize", {200, std::string(bad)});
    const auto tokens = ask(96);
    ASSERT_FALSE(tokens) << bad;
  }
  set_reply("/tokenize", {200, tokens_reply(96)});
  for (const std::string_view bad : {"", "oops", "{}", "{\"content\":\"x\"}"}) {
    set_reply("/completion", {200, std::string(bad)});
    const auto tokens = ask(96);
    ASSERT_FALSE(tokens) << bad;
    EXPECT_EQ(tokens.error().code, engines::kEngineUnusable);
  }
}

TEST_F(AnswerProbe, DoesNotWaitForever) {
  set_reply("/completion", {200, std::string(kAnswer), 2s});
  const auto before = std::chrono::steady_clock::now();
  const auto tokens = ask(96, {}, 100ms);
  ASSERT_FALSE(tokens);
  EXPECT_EQ(tokens.error().code, kTimeout);
  EXPECT_LT(std::chrono::steady_clock::now() - before, 1500ms);
}

TEST(AnswerProbeWithoutAnEngine, SaysSo) {
  std::uint16_t port = 0;
  {
    const http::testing::RawServer closed;
    port = closed.port();
  }
  const auto tokens = http::testing::run_task(ask_first_tokens({"127.0.0.1", port}, {}, 96, 5s));
  ASSERT_FALSE(tokens);
  EXPECT_EQ(tokens.error().code, http::kUnreachable);
}

}  // namespace
}  // namespace yoke::supervisor
