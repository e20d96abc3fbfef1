#include "http/message.h"

#include <gtest/gtest.h>

namespace yoke::http {
namespace {

TEST(Headers, CompareNamesWithoutCase) {
  Headers headers{{"Content-Type", "text/plain"}, {"X-A", "1"}, {"x-a", "2"}};
  EXPECT_EQ(headers.get("content-type"), "text/plain");
  EXPECT_EQ(headers.get("X-a"), "1");
  EXPECT_EQ(headers.get("absent"), std::nullopt);
  headers.set("X-A", "3");
  EXPECT_EQ(headers.get("x-a"), "3");
  headers.erase("X-A");
  EXPECT_EQ(headers.get("x-a"), std::nullopt);
}

TEST(Headers, FindTokensInLists) {
  const Headers headers{{"Connection", "keep-alive, Upgrade"}, {"connection", "Close"}};
  EXPECT_TRUE(headers.has_token("Connection", "upgrade"));
  EXPECT_TRUE(headers.has_token("Connection", "close"));
  EXPECT_FALSE(headers.has_token("Connection", "clos"));
  EXPECT_FALSE(headers.has_token("Connection", ""));
}

TEST(RequestHead, SplitsTheTarget) {
  RequestHead head;
  head.target = "/logs?model=a%2Fb&follow=&flag";
  EXPECT_EQ(head.path(), "/logs");
  EXPECT_EQ(head.query("model"), "a/b");
  EXPECT_EQ(head.query("follow"), "");
  EXPECT_EQ(head.query("flag"), std::nullopt);
  EXPECT_EQ(head.query("absent"), std::nullopt);
  head.target = "/a?x=%zz";
  EXPECT_EQ(head.query("x"), std::nullopt);
}

TEST(ReasonPhrase, IsEmptyForTheUnknown) {
  EXPECT_EQ(reason_phrase(404), "Not Found");
  EXPECT_EQ(reason_phrase(431), "Request Header Fields Too Large");
  EXPECT_EQ(reason_phrase(799), "");
}

}  // namespace
}  // namespace yoke::http
