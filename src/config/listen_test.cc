#include "config/listen.h"

#include <gtest/gtest.h>

namespace yoke::config {
namespace {

TEST(ParseListen, TakesAddressesWithAPort) {
  EXPECT_EQ(parse_listen("127.0.0.1:8642").value(), (ListenAddress{"127.0.0.1", 8642}));
  EXPECT_EQ(parse_listen("0.0.0.0:1").value(), (ListenAddress{"0.0.0.0", 1}));
  EXPECT_EQ(parse_listen("[::1]:65535").value(), (ListenAddress{"::1", 65535}));
  EXPECT_EQ(parse_listen("[::]:0").value(), (ListenAddress{"::", 0}));
  EXPECT_EQ(parse_listen("localhost:80").value(), (ListenAddress{"127.0.0.1", 80}));
}

class BadListen : public testing::TestWithParam<const char*> {};

TEST_P(BadListen, IsRefusedWithAnExample) {
  const auto parsed = parse_listen(GetParam());
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().code, kInvalidArgument);
  EXPECT_NE(parsed.error().hint.find("127.0.0.1:8642"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(All, BadListen,
                         testing::Values("", ":", "8642", ":8642", "127.0.0.1",
                                         "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1",
                                         "127.0.0.1:80x", "::1:80", "[127.0.0.1]:80", "[::1]",
                                         "[]:80", "example.org:80", "127.0.0.1 :80", "1.2.3:80"));

TEST(IsLoopback, KnowsWhatOtherMachinesCanReach) {
  for (const char* host : {"127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"}) {
    EXPECT_TRUE(is_loopback(host)) << host;
  }
  for (const char* host : {"0.0.0.0", "::", "192.168.1.2", "128.0.0.1", "fe80::1",
                           "::ffff:10.0.0.1", "localhost.example.org", ""}) {
    EXPECT_FALSE(is_loopback(host)) << host;
  }
}

}  // namespace
}  // namespace yoke::config
