#include "models/http_head.h"

#include <gtest/gtest.h>

namespace yoke::models {
namespace {

using std::chrono::seconds;
using Time = std::chrono::system_clock::time_point;

HttpHead head_of(std::initializer_list<std::string_view> lines) {
  HttpHead head;
  for (const std::string_view line : lines) read_head_line(line, head);
  return head;
}

TEST(HttpHead, OfARange) {
  const HttpHead head =
      head_of({"HTTP/1.1 206 Partial Content\r\n", "Content-Range: bytes 100-199/1000\r\n",
               "content-length: 100\r\n", "ETag: \"abc\"\r\n", "\r\n"});
  EXPECT_EQ(head.status, 206);
  EXPECT_EQ(head.range, (ByteRange{100, 100}));
  EXPECT_EQ(head.whole, 1000);
  EXPECT_EQ(head.length, 100);
  EXPECT_EQ(head.etag, "\"abc\"");
}

TEST(HttpHead, OfNoRange) {
  const HttpHead head = head_of({"HTTP/2 416", "Content-Range: bytes */1000"});
  EXPECT_EQ(head.status, 416);
  EXPECT_EQ(head.range, std::nullopt);
  EXPECT_EQ(head.whole, 1000);
}

TEST(HttpHead, NonsenseIsNothing) {
  for (const char* const line :
       {"Content-Range: bytes 9-1/5", "Content-Range: bytes a-b/c", "Content-Range: bytes",
        "Content-Range: bytes 0-18446744073709551615/1", "Content-Length: -1", "Content-Length: 1x",
        "Content-Length: 99999999999999999999", "Retry-After: soon", "Link: <", ":", "x"}) {
    const HttpHead head = head_of({"HTTP/1.1 200 OK", line});
    EXPECT_EQ(head.range, std::nullopt) << line;
    EXPECT_EQ(head.length, std::nullopt) << line;
    EXPECT_EQ(head.retry_after, std::nullopt) << line;
    EXPECT_EQ(head.next_page, "") << line;
  }
}

TEST(HttpHead, ARedirectLeavesWhatTheHubSaid) {
  const HttpHead head = head_of({"HTTP/1.1 302 Found", "X-Linked-Etag: \"sha\"", "ETag: \"hub\"",
                                 "X-Error-Code: GatedRepo", "HTTP/1.1 200 OK", "ETag: \"cdn\""});
  EXPECT_EQ(head.linked_etag, "\"sha\"");
  EXPECT_EQ(head.etag, "\"cdn\"");
  EXPECT_EQ(head.error_code, "");
}

TEST(HttpHead, TheNextPage) {
  EXPECT_EQ(head_of({"Link: <https://h/a?cursor=1>; rel=\"next\""}).next_page,
            "https://h/a?cursor=1");
  EXPECT_EQ(head_of({"link: <https://h/p>; rel=\"prev\", <https://h/n>; rel=\"next\""}).next_page,
            "https://h/n");
  EXPECT_EQ(head_of({"link: <https://h/p>; rel=\"prev\""}).next_page, "");
}

TEST(HttpHead, HowLongToWait) {
  EXPECT_EQ(head_of({"HTTP/1.1 429 x", "Retry-After: 30"}).retry_after, seconds(30));
  EXPECT_EQ(head_of({"HTTP/1.1 429 x", "RateLimit: \"api\";r=0;t=55"}).retry_after, seconds(55));
  EXPECT_EQ(head_of({"HTTP/1.1 200 x", "RateLimit: \"api\";r=9;t=55"}).retry_after, std::nullopt);
}

TEST(RetryAfter, SecondsAndDates) {
  const Time now = std::chrono::system_clock::from_time_t(1'000'000'000);
  EXPECT_EQ(parse_retry_after("120", now), seconds(120));
  EXPECT_EQ(parse_retry_after("Sun, 09 Sep 2001 01:47:40 GMT", now), seconds(60));
  EXPECT_EQ(parse_retry_after("Sun, 09 Sep 2001 01:40:00 GMT", now), seconds(0));
  EXPECT_EQ(parse_retry_after("", now), std::nullopt);
  EXPECT_EQ(parse_retry_after("-5", now), std::nullopt);
}

TEST(Url, Origins) {
  EXPECT_TRUE(same_origin("https://h/a", "https://h:443/b?c"));
  EXPECT_TRUE(same_origin("https://H/a", "https://h/a"));
  EXPECT_FALSE(same_origin("https://h/a", "http://h/a"));
  EXPECT_FALSE(same_origin("http://h:1/a", "http://h:2/a"));
  EXPECT_FALSE(same_origin("https://h.evil/a", "https://h/a"));
  EXPECT_FALSE(same_origin("https://h@evil/a", "https://h/a"));
  EXPECT_FALSE(same_origin("", ""));
}

TEST(Url, Encoding) {
  EXPECT_EQ(url_encode("a b/ü?#%", true), "a%20b/%C3%BC%3F%23%25");
  EXPECT_EQ(url_encode("refs/pr/1", false), "refs%2Fpr%2F1");
  EXPECT_EQ(url_decode("a%20b%2fc"), "a b/c");
  EXPECT_EQ(url_decode("a%2"), std::nullopt);
  EXPECT_EQ(url_decode("a%zz"), std::nullopt);
  EXPECT_EQ(url_decode("a%00b"), std::nullopt);
}

}  // namespace
}  // namespace yoke::models
