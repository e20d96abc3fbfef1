#include "engines/answer_check.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <set>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json_fields.h"
#include "engines/capabilities.h"

namespace yoke::engines {
namespace {

using testing::DoubleNear;
using testing::HasSubstr;
using testing::SizeIs;

config::LoadOptions options(int n_ctx, int n_ubatch, int n_batch = 2048) {
  config::LoadOptions options;
  options.n_ctx = n_ctx;
  options.n_batch = n_batch;
  options.n_ubatch = n_ubatch;
  return options;
}

// One position per list; the likeliest token is taken.
FirstTokens answer(std::vector<std::vector<TokenOdds>> positions) {
  FirstTokens tokens{100, {}};
  for (auto& likeliest : positions) {
    tokens.positions.push_back({likeliest.front().token, std::move(likeliest)});
  }
  return tokens;
}

TEST(CheckPromptTokens, IsLongerThanOneBatch) {
  EXPECT_EQ(check_prompt_tokens(options(8192, 2048)), 2080);
  EXPECT_EQ(check_prompt_tokens(options(8192, 64)), 96);
  EXPECT_EQ(check_prompt_tokens(options(8192, 2048, 128)), 160);  // Never more than n_batch.
}

TEST(CheckPromptTokens, LeavesRoomForTheAnswerInOneSlot) {
  EXPECT_EQ(check_prompt_tokens(options(1024, 2048)), 1008);
  config::LoadOptions parallel = options(1024, 2048);
  parallel.parallel = 4;
  EXPECT_EQ(check_prompt_tokens(parallel), 240);
}

TEST(CheckPromptTokens, NoneWhereTheContextIsTooSmall) {
  EXPECT_EQ(check_prompt_tokens(options(48, 2048)), 0);
  EXPECT_EQ(check_prompt_tokens(options(64, 2048)), 48);
}

TEST(CheckPromptTokens, TheModelsOwnContextHoldsTwoThousandAtLeast) {
  EXPECT_EQ(check_prompt_tokens(options(0, 2048)), 2032);
  EXPECT_EQ(check_prompt_tokens(options(0, 512)), 544);
}

TEST(CheckPromptTokens, OnlyModelsThatAnswerAreChecked) {
  config::LoadOptions embedding = options(8192, 512);
  embedding.server_type = config::ServerType::kEmbedding;
  EXPECT_EQ(check_prompt_tokens(embedding), 0);
}

TEST(CheckText, HasAWordForEachToken) {
  for (const int tokens : {1, 48, 2080, 9000}) {
    std::istringstream words(check_text(tokens));
    const auto count = std::distance(std::istream_iterator<std::string>(words), {});
    EXPECT_GE(count, tokens);
    EXPECT_LE(count, tokens + 60);
  }
}

TEST(CheckText, NeverRepeatsASentence) {
  std::istringstream lines(check_text(20'000));
  std::set<std::string> seen;
  std::string line;
  while (std::getline(lines, line)) {
    EXPECT_TRUE(seen.insert(line.substr(line.find(". ") + 2)).second) << line;
  }
  EXPECT_GT(seen.size(), 500u);
}

TEST(CheckText, AShorterOneIsTheBeginningOfALongerOne) {
  EXPECT_TRUE(check_text(3000).starts_with(check_text(100)));
}

TEST(CheckPrompt, EndsInItsOwnBeginning) {
  std::vector<std::int64_t> text(500);
  std::iota(text.begin(), text.end(), 1000);
  for (const int count : {48, 64, 500}) {
    const auto prompt = check_prompt(text, count);
    ASSERT_THAT(prompt, SizeIs(count));
    const auto repeated = prompt.end() - 12;
    EXPECT_TRUE(std::equal(prompt.begin(), repeated, text.begin()));
    EXPECT_TRUE(std::equal(repeated, prompt.end(), text.begin() + 4));
  }
}

TEST(Compare, TheSameIsNotAway) {
  const auto tokens = answer({{{7, 0.6}, {8, 0.3}}, {{9, 0.9}}});
  const Agreement agreement = compare(tokens, tokens);
  EXPECT_TRUE(agreement.agrees);
  EXPECT_EQ(agreement.distance, 0);
}

TEST(Compare, IsTheTotalVariation) {
  const auto reference = answer({{{7, 0.6}, {8, 0.3}}});
  const auto other = answer({{{7, 0.5}, {8, 0.4}}});
  const Agreement agreement = compare(reference, other);
  EXPECT_TRUE(agreement.agrees);
  EXPECT_THAT(agreement.distance, DoubleNear(0.1, 1e-9));
  EXPECT_THAT(agreement.why, HasSubstr("token 1 are 0.100 away"));
}

TEST(Compare, CountsWhatOnlyOneSideNames) {
  // The tokens beyond the lists have 0.2 and 0.1 in all.
  const auto reference = answer({{{7, 0.5}, {8, 0.3}}});
  const auto other = answer({{{7, 0.5}, {9, 0.4}}});
  EXPECT_THAT(compare(reference, other).distance, DoubleNear((0.3 + 0.4 + 0.1) / 2, 1e-9));
}

TEST(Compare, NothingInCommonIsWrong) {
  const auto reference = answer({{{7, 1.0}}});
  const Agreement agreement = compare(reference, answer({{{3, 1.0}}}));
  EXPECT_FALSE(agreement.agrees);
  EXPECT_EQ(agreement.distance, 1);
}

TEST(Compare, ATieThatGoesTheOtherWayIsRight) {
  // And behind it each went on by itself, which says nothing.
  const auto reference = answer({{{7, 0.41}, {8, 0.40}}, {{1, 1.0}}});
  const auto other = answer({{{8, 0.41}, {7, 0.40}}, {{2, 1.0}}});
  const Agreement agreement = compare(reference, other);
  EXPECT_TRUE(agreement.agrees);
  EXPECT_THAT(agreement.distance, DoubleNear(0.01, 1e-9));
}

TEST(Compare, OneWrongPositionIsEnough) {
  const auto reference = answer({{{7, 1.0}}, {{8, 0.9}, {9, 0.1}}, {{5, 1.0}}});
  const auto other = answer({{{7, 1.0}}, {{8, 0.30}, {9, 0.20}}, {{5, 1.0}}});
  const Agreement agreement = compare(reference, other);
  EXPECT_FALSE(agreement.agrees);
  EXPECT_THAT(agreement.distance, DoubleNear(0.6, 1e-9));
  EXPECT_THAT(agreement.why, HasSubstr("token 2 "));
}

TEST(Compare, NoProbabilitiesAtAllAreWrongEvenTwice) {
  const auto nothing = answer({{{7, 0.0}, {8, 0.0}}});
  EXPECT_FALSE(compare(answer({{{7, 1.0}}}), nothing).agrees);
  EXPECT_FALSE(compare(nothing, nothing).agrees);
}

TEST(Compare, AnEmptyAnswerIsWrong) {
  EXPECT_FALSE(compare(answer({{{7, 1.0}}}), FirstTokens{}).agrees);
}

// As llama-server 0.5.0 answers, shortened.
constexpr std::string_view kReply = R"({"index":0,"content":" than expected","tokens":[],
"stop":true,"model":"m","tokens_predicted":2,"tokens_evaluated":96,"completion_probabilities":[
{"id":670,"token":" than","bytes":[32],"logprob":-0.5,"top_logprobs":[
  {"id":670,"token":" than","bytes":[32],"logprob":-0.5},
  {"id":30,"token":".","bytes":[46],"logprob":-1.5}]},
{"id":2834,"token":" expected","bytes":[32],"logprob":-0.1,"top_logprobs":[
  {"id":2834,"token":" expected","bytes":[32],"logprob":-0.1},
  {"id":4,"token":"\u0004","bytes":[4],"logprob":-3.4028234663852886e38}]}],"truncated":false})";

TEST(ParseFirstTokens, ReadsWhatLlamaServerAnswers) {
  const auto tokens = parse_first_tokens(kReply, 96);
  ASSERT_TRUE(tokens) << tokens.error().message;
  EXPECT_EQ(tokens->prompt_tokens, 96);
  ASSERT_THAT(tokens->positions, SizeIs(2));
  EXPECT_EQ(tokens->positions[0].taken, 670);
  ASSERT_THAT(tokens->positions[0].likeliest, SizeIs(2));
  EXPECT_EQ(tokens->positions[0].likeliest[1].token, 30);
  EXPECT_THAT(tokens->positions[0].likeliest[1].probability, DoubleNear(0.22313, 1e-5));
  EXPECT_EQ(tokens->positions[1].likeliest[1].probability, 0);
}

TEST(ParseFirstTokens, WhatIsNoNumberIsNotLikely) {
  const auto tokens = parse_first_tokens(
      R"({"completion_probabilities":[{"id":0,"logprob":null,"top_logprobs":[
          {"id":0,"logprob":null},{"id":1,"logprob":null}]}]})",
      96);
  ASSERT_TRUE(tokens) << tokens.error().message;
  EXPECT_EQ(tokens->positions[0].likeliest[1].probability, 0);
}

TEST(ParseFirstTokens, NeverGivesMoreThanCertainty) {
  const auto tokens = parse_first_tokens(
      R"({"completion_probabilities":[{"id":0,"top_logprobs":[{"id":0,"logprob":1e300}]}]})", 96);
  ASSERT_TRUE(tokens);
  EXPECT_EQ(tokens->positions[0].likeliest[0].probability, 1);
}

TEST(ParseFirstTokens, RefusesAnythingElse) {
  std::string long_list = R"({"completion_probabilities":[{"id":0,"top_logprobs":[)";
  for (int i = 0; i < 300; ++i) long_list += R"({"id":1,"logprob":-9},)";
  long_list += R"({"id":1,"logprob":-9}]}]})";
  for (const std::string_view reply :
       {std::string_view(""), std::string_view("oops"), std::string_view("[]"),
        std::string_view("{}"), std::string_view(R"({"content":"x"})"),
        std::string_view(R"({"completion_probabilities":[]})"),
        std::string_view(R"({"completion_probabilities":[7]})"),
        std::string_view(R"({"completion_probabilities":[{"id":1}]})"),
        std::string_view(R"({"completion_probabilities":[{"id":1,"top_logprobs":[]}]})"),
        std::string_view(R"({"completion_probabilities":[{"id":"1","top_logprobs":[{}]}]})"),
        std::string_view(
            R"({"completion_probabilities":[{"id":1,"top_logprobs":[{"id":1,"logprob":"x"}]}]})"),
        std::string_view(long_list)}) {
    const auto tokens = parse_first_tokens(reply, 96);
    ASSERT_FALSE(tokens) << reply;
    EXPECT_EQ(tokens.error().code, kEngineUnusable);
  }
}

TEST(StoredTokens, ComeBackAsTheyWere) {
  const auto tokens = parse_first_tokens(kReply, 96).value();
  const auto again = first_tokens_of(to_text(tokens));
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->prompt_tokens, 96);
  EXPECT_EQ(again->positions[1].taken, 2834);
  EXPECT_THAT(compare(tokens, *again).distance, DoubleNear(0, 1e-9));
}

TEST(StoredTokens, RefusesWhatItDidNotWrite) {
  const std::string good = to_text(answer({{{7, 0.5}}}));
  ASSERT_TRUE(first_tokens_of(good));
  for (const auto& [from, to] : {std::pair<std::string, std::string>{"100", "0"},
                                 {"100", "99999999999"},
                                 {"0.5", "1.5"},
                                 {"0.5", "-0.5"},
                                 {"\"probability\"", "\"p\""},
                                 {"[{\"taken\"", "[[{\"taken\""}}) {
    std::string bad = good;
    ASSERT_NE(bad.find(from), std::string::npos) << from;
    bad.replace(bad.find(from), from.size(), to);
    EXPECT_FALSE(first_tokens_of(bad)) << bad;
  }
  EXPECT_FALSE(first_tokens_of(""));
  EXPECT_FALSE(first_tokens_of("{\"prompt_tokens\":5,\"positions\":[]}"));
}

}  // namespace
}  // namespace yoke::engines
