#include "cli/server_url.h"

#include <gtest/gtest.h>

namespace yoke::cli {
namespace {

struct Expected {
  const char* text;
  http::Endpoint endpoint;
  const char* prefix;
  const char* shown;
};

TEST(ServerUrl, TakesTheUsualForms) {
  const Expected all[] = {
      {"http://127.0.0.1:8642", {"127.0.0.1", 8642}, "", "http://127.0.0.1:8642"},
      {"http://127.0.0.1:8642/", {"127.0.0.1", 8642}, "", "http://127.0.0.1:8642"},
      {"HTTP://box:9000", {"box", 9000}, "", "http://box:9000"},
      {"box:9000", {"box", 9000}, "", "http://box:9000"},
      {"box", {"box", 8642}, "", "http://box:8642"},
      {"http://box", {"box", 80}, "", "http://box:80"},
      {"http://[::1]:8642", {"::1", 8642}, "", "http://[::1]:8642"},
      {"http://box:1/v1", {"box", 1}, "", "http://box:1"},
      {"http://box:1/yoke/v1/", {"box", 1}, "/yoke", "http://box:1/yoke"},
  };
  for (const Expected& expected : all) {
    const auto url = parse_server_url(expected.text);
    ASSERT_TRUE(url) << expected.text;
    EXPECT_EQ(url->endpoint, expected.endpoint) << expected.text;
    EXPECT_EQ(url->prefix, expected.prefix) << expected.text;
    EXPECT_EQ(url->text, expected.shown) << expected.text;
  }
}

TEST(ServerUrl, RefusesTheRest) {
  for (const char* bad : {"", "http://", "https://box:1", "ftp://box", "box:0", "box:65536",
                          "box:port", "http://me:secret@box:1", "a b", "http://:1"}) {
    const auto url = parse_server_url(bad);
    ASSERT_FALSE(url) << bad;
    EXPECT_EQ(url.error().code, kInvalidArgument);
  }
}

}  // namespace
}  // namespace yoke::cli
