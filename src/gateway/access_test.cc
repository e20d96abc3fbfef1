#include "gateway/access.h"

#include <gtest/gtest.h>

#include "gateway/api_error.h"

namespace yoke::gateway {
namespace {

http::RequestHead with(http::Headers headers) {
  http::RequestHead request;
  request.headers = std::move(headers);
  return request;
}

TEST(Access, WithoutAKeyLocalNamesAndAddressesMayCome) {
  for (const char* host : {"localhost", "localhost:8642", "LOCALHOST", "127.0.0.1:1", "[::1]:8642",
                           "192.168.1.7:80", "yoke.localhost:8642"}) {
    EXPECT_TRUE(check_access({}, with({{"Host", host}}))) << host;
  }
  EXPECT_TRUE(check_access({}, with({})));
}

TEST(Access, WithoutAKeyNoOtherNameIsServed) {
  for (const char* host : {"evil.example", "localhost.evil.example:8642", "127.0.0.1.evil.example",
                           "localhost@evil.example", ""}) {
    const auto access = check_access({}, with({{"Host", host}}));
    ASSERT_FALSE(access) << host;
    EXPECT_EQ(access.error().code, kHostNotAllowed);
  }
}

TEST(Access, AKeyIsTakenInEitherHeader) {
  const AccessRules rules{"0123456789abcdef", {}};
  EXPECT_TRUE(check_access(rules, with({{"Authorization", "Bearer 0123456789abcdef"}})));
  EXPECT_TRUE(check_access(rules, with({{"authorization", "bearer 0123456789abcdef"}})));
  EXPECT_TRUE(check_access(rules, with({{"X-Api-Key", "0123456789abcdef"}})));
  EXPECT_TRUE(
      check_access(rules, with({{"Host", "yoke.example"}, {"X-Api-Key", "0123456789abcdef"}})));
}

TEST(Access, AWrongKeyIsRefusedAndNotRepeated) {
  const AccessRules rules{"0123456789abcdef", {}};
  for (const char* value : {"", "Bearer", "Bearer ", "Bearer 0123456789abcdeg", "0123456789abcdef",
                            "Bearer 0123456789abcdef ", "Basic 0123456789abcdef"}) {
    const auto access = check_access(rules, with({{"Authorization", value}}));
    ASSERT_FALSE(access) << value;
    EXPECT_EQ(access.error().code, kInvalidApiKey);
    EXPECT_EQ(access.error().text().find("0123"), std::string::npos);
  }
}

TEST(Access, StrangeOriginsAreRefusedAndNamedOnesAreNot) {
  const AccessRules rules{"", {"https://chat.example"}};
  EXPECT_TRUE(check_access(rules, with({{"Origin", "http://localhost:3000"}})));
  EXPECT_TRUE(check_access(rules, with({{"Origin", "https://chat.example"}})));
  for (const char* origin : {"https://evil.example", "null", "http://localhost.evil.example",
                             "https://chat.example.evil.example"}) {
    const auto access = check_access(rules, with({{"Origin", origin}}));
    ASSERT_FALSE(access) << origin;
    EXPECT_EQ(access.error().code, kOriginNotAllowed);
    EXPECT_EQ(allowed_origin(rules, with({{"Origin", origin}})), "");
  }
  EXPECT_EQ(allowed_origin(rules, with({{"Origin", "https://chat.example"}})),
            "https://chat.example");
  EXPECT_TRUE(check_access({"", {"*"}}, with({{"Origin", "https://any.example"}})));
}

}  // namespace
}  // namespace yoke::gateway
