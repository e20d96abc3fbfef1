#include "engines/capabilities.h"

#include <gtest/gtest.h>

#include "engines/test_support.h"

namespace yoke::engines {
namespace {

TEST(ParseCapabilities, ReadsARealHelp) {
  const Capabilities capabilities = real_capabilities();
  EXPECT_TRUE(capabilities.offers("--load-mode", "mmap+mlock"));
  EXPECT_FALSE(capabilities.offers("--load-mode", "no"));
  EXPECT_FALSE(capabilities.offers("--ctx-size", "mlock"));
  for (const char* flag : {"-m",
                           "--model",
                           "-c",
                           "--ctx-size",
                           "--flash-attn",
                           "--load-mode",
                           "--fit",
                           "--host",
                           "--port",
                           "--alias",
                           "--embedding",
                           "--embeddings",
                           "--reranking",
                           "--no-webui",
                           "--no-ui",
                           "--jinja",
                           "--no-jinja",
                           "-nocb",
                           "--no-cont-batching",
                           "--slots",
                           "--metrics",
                           "--offline",
                           "--log-colors",
                           "--n-gpu-layers",
                           "--no-log-prefix",
                           "--override-tensor",
                           "--version"}) {
    EXPECT_TRUE(capabilities.has(flag)) << flag;
  }
  for (const char* flag : {"--mlock", "--no-mmap", "-----", "-", "common", "--ctx", ""}) {
    EXPECT_FALSE(capabilities.has(flag)) << flag;
  }
}

TEST(ParseCapabilities, KnowsWhichFlagsTakeAValue) {
  const Capabilities capabilities = real_capabilities();
  for (const char* flag : {"-m", "--model", "--flash-attn", "--fit", "--load-mode", "--rpc",
                           "--pooling", "--port", "--log-colors", "--override-tensor"}) {
    EXPECT_TRUE(capabilities.takes_value(flag)) << flag;
  }
  for (const char* flag : {"--help", "--jinja", "--cont-batching", "--no-cont-batching", "--slots",
                           "--metrics", "--offline", "--embedding", "--kv-offload", "--repack"}) {
    EXPECT_TRUE(capabilities.has(flag)) << flag;
    EXPECT_FALSE(capabilities.takes_value(flag)) << flag;
  }
}

TEST(ParseCapabilities, LeavesOutFlagsThatWereRemoved) {
  const Capabilities capabilities = real_capabilities();
  EXPECT_FALSE(capabilities.has("--draft"));
  EXPECT_FALSE(capabilities.has("--draft-max"));
  // Also where the remark stands on the line below the flags.
  const auto wrapped = parse_capabilities("",
                                          "--old-flag, --older-flag-with-a-long-name N\n"
                                          "          the argument has been removed. use --new\n"
                                          "--new N   what there is now\n");
  EXPECT_FALSE(wrapped->has("--old-flag"));
  EXPECT_TRUE(wrapped->takes_value("--new"));
}

TEST(ParseCapabilities, ReadsTheFlashAttentionFlagOfOlderVersions) {
  const auto old = parse_capabilities(
      "version: 5000 (abcdef12)\n",
      "-fa,   --flash-attn                     enable Flash Attention (default: disabled)\n");
  EXPECT_TRUE(old->has("--flash-attn"));
  EXPECT_FALSE(old->takes_value("--flash-attn"));
}

TEST(ParseCapabilities, FindsTheVersionAmongLogLines) {
  const auto version = [](std::string_view output) {
    return parse_capabilities(output, "-m M").value().version;
  };
  EXPECT_EQ(version("0.00.000.524 I srv  llama_server: initializing ...\n"
                    "version: 0.5.0 (build 1, commit de3ff81)\n"
                    "built with GNU 12.2.0 for Linux x86_64\n"),
            "0.5.0 (build 1, commit de3ff81)");
  EXPECT_EQ(version("version: 6123 (abcdef12)\r\nbuilt"), "6123 (abcdef12)");
  EXPECT_EQ(version("nothing"), "");
}

TEST(ParseCapabilities, RefusesWhatIsNoLlamaServer) {
  for (const char* help : {"", "Usage: something else\n", "----- params -----\n", "-", "-,"}) {
    const auto parsed = parse_capabilities("", help);
    ASSERT_FALSE(parsed) << help;
    EXPECT_EQ(parsed.error().code, kEngineUnusable);
  }
}

}  // namespace
}  // namespace yoke::engines
