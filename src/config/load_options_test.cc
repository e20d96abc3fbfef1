#include "config/load_options.h"

#include <gtest/gtest.h>

namespace yoke::config {
namespace {

TEST(LoadOptions, HasTheDocumentedDefaults) {
  const LoadOptions options;
  EXPECT_EQ(options.n_ctx, 8192);
  EXPECT_EQ(options.n_batch, 0);
  EXPECT_EQ(options.n_ubatch, 0);
  EXPECT_EQ(options.n_gpu_layers, -1);
  EXPECT_EQ(options.flash_attn, FlashAttention::kAuto);
  EXPECT_FALSE(options.fit_memory);
  EXPECT_TRUE(options.mlock);
  EXPECT_TRUE(options.cont_batching);
  EXPECT_TRUE(options.jinja);
}

TEST(LoadOptions, NamesItsChoicesAsTheyAreWritten) {
  EXPECT_EQ(name_of(ServerType::kLlm), "llm");
  EXPECT_EQ(name_of(ServerType::kEmbedding), "embedding");
  EXPECT_EQ(name_of(ServerType::kRerank), "rerank");
  EXPECT_EQ(name_of(FlashAttention::kAuto), "auto");
  EXPECT_EQ(name_of(FlashAttention::kOn), "on");
  EXPECT_EQ(name_of(FlashAttention::kOff), "off");
  EXPECT_EQ(name_of(AnswerCheck::kAuto), "auto");
  EXPECT_EQ(name_of(AnswerCheck::kOn), "on");
  EXPECT_EQ(name_of(AnswerCheck::kOff), "off");
}

TEST(IsQuantized, IsTrueBelowSixteenBits) {
  for (const char* type : {"", "f32", "f16", "bf16"}) EXPECT_FALSE(is_quantized(type)) << type;
  for (const char* type : {"q8_0", "q4_1", "iq4_nl"}) EXPECT_TRUE(is_quantized(type)) << type;
}

TEST(UsesRpc, ByServersOrArguments) {
  LoadOptions options;
  EXPECT_FALSE(uses_rpc(options));
  options.extra_args = {"--rpc", "127.0.0.1:50052"};
  EXPECT_TRUE(uses_rpc(options));
  options.extra_args = {"--rpc-like", "x"};
  EXPECT_FALSE(uses_rpc(options));
  options.rpc_servers = {{"127.0.0.1:50052", "desk-2"}};
  EXPECT_TRUE(uses_rpc(options));
}

TEST(CheckExtraArgs, TakesFlagsOfTheUsersOwn) {
  const std::vector<std::string> args{"--cache-reuse", "256", "-ctk", "q8_0", "--hosts-file"};
  EXPECT_TRUE(check_extra_args(args));
  EXPECT_TRUE(check_extra_args({}));
}

class ReservedFlag : public testing::TestWithParam<std::string> {};

TEST_P(ReservedFlag, IsRefused) {
  const std::vector<std::string> args{"--cache-reuse", "256", GetParam(), "secret-value"};
  const auto checked = check_extra_args(args);
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code, kInvalidArgument);
  EXPECT_EQ(checked.error().text().find("secret"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(All, ReservedFlag,
                         testing::Values("--host", "--port", "--api-key", "--api_key",
                                         "--api-key=secret", "--api-key-file", "--model", "-m",
                                         "--log-disable", "--log_file", "--ssl-key-file", "-hf",
                                         "--hf-repo", "--model-url"));

}  // namespace
}  // namespace yoke::config
