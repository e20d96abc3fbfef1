#include "config/changes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yoke::config {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// Every key that is no model's, with another value than the default.
constexpr const char* kOther = R"(
[server]
listen = "127.0.0.1:9000"
api_key = "0123456789abcdef"
allowed_origins = ["https://example.org"]
max_request_size = "1MiB"
start_timeout = "1s"
first_byte_timeout = "2s"
idle_timeout = "3s"
hang_timeout = "4s"
threads = 5
state_dir = "/elsewhere"
log_level = "debug"
[engines]
llama_server_cpu = "/a"
vllm = "/b"
rocm_path = "/c"
software_devices = true
[memory]
host = "1GiB"
gpu = "2GiB"
[contexts]
max_size = "3GiB"
save_after = "6s"
[groups.a]
)";

Config parsed(const std::string& text) {
  auto config = parse_config(text + "[models.m]\nmodel_path = \"/m\"\n", "yoke.toml");
  EXPECT_TRUE(config) << (config ? "" : config.error().text());
  return config ? std::move(*config) : Config{};
}

TEST(CompareConfigs, NothingChangedIsNothing) {
  const ConfigChanges changes = compare(parsed(kOther), parsed(kOther));
  EXPECT_THAT(changes.taken_over, IsEmpty());
  EXPECT_THAT(changes.needs_restart, IsEmpty());
}

TEST(CompareConfigs, NamesEveryKeyOnce) {
  const ConfigChanges changes = compare(parsed(""), parsed(kOther));
  EXPECT_THAT(changes.needs_restart, ElementsAre("[server] listen", "[server] threads",
                                                 "[server] state_dir", "[contexts] max_size"));
  EXPECT_THAT(
      changes.taken_over,
      ElementsAre("[server] api_key", "[server] allowed_origins", "[server] max_request_size",
                  "[server] start_timeout", "[server] first_byte_timeout", "[server] idle_timeout",
                  "[server] hang_timeout", "[server] log_level", "[engines] llama_server_*",
                  "[engines] vllm", "[engines] rocm_path", "[engines] software_devices",
                  "[memory] host", "[memory] gpu", "[contexts] save_after", "[groups]"));
  EXPECT_THAT(compare(parsed(""), parsed("[engines]\nllama_server = \"/a\"\n")).taken_over,
              ElementsAre("[engines] llama_server"));
}

TEST(CompareConfigs, TheAddressIsHostAndPort) {
  Config running = parsed("");
  Config next = running;
  next.server.host = "::1";
  EXPECT_THAT(compare(running, next).needs_restart, ElementsAre("[server] listen"));
  next.server.port = 1;
  EXPECT_THAT(compare(running, next).needs_restart, ElementsAre("[server] listen"));
}

TEST(KeepUntilRestart, KeepsThatAndNothingElse) {
  const Config running = parsed("");
  Config next = parsed(kOther);
  keep_until_restart(running, next);
  EXPECT_THAT(compare(running, next).needs_restart, IsEmpty());
  EXPECT_EQ(next.server.port, 8642);
  EXPECT_EQ(next.server.threads, 0u);
  EXPECT_EQ(next.server.hang_timeout, std::chrono::seconds(4));
  EXPECT_EQ(next.contexts.max_bytes, ContextsConfig{}.max_bytes);
  EXPECT_THAT(compare(parsed(kOther), next).taken_over, IsEmpty());
}

}  // namespace
}  // namespace yoke::config
