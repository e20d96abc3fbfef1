#include "http/sse.h"

#include <vector>

#include <gtest/gtest.h>

namespace yoke::http {
namespace {

std::vector<SseEvent> parse(std::string_view text, std::size_t piece) {
  SseParser parser;
  std::vector<SseEvent> events;
  SseEvent event;
  for (std::size_t at = 0; at < text.size(); at += piece) {
    EXPECT_TRUE(parser.feed(text.substr(at, piece)));
    while (parser.next(event)) events.push_back(event);
  }
  return events;
}

TEST(SseParser, GivesTheSameEventsHoweverTheStreamIsCut) {
  constexpr std::string_view kStream =
      ": ping\n\n"
      "data: one\n\n"
      "event: error\r\ndata:two\r\ndata: lines\r\n\r\n"
      "id: 7\ndata\n\n"
      "data: last\r\r"
      "data: unfinished\n";
  for (std::size_t piece = 1; piece <= kStream.size(); ++piece) {
    const auto events = parse(kStream, piece);
    ASSERT_EQ(events.size(), 4u) << "pieces of " << piece;
    EXPECT_EQ(events[0].data, "one");
    EXPECT_EQ(events[1].event, "error");
    EXPECT_EQ(events[1].data, "two\nlines");
    EXPECT_EQ(events[2].data, "");
    EXPECT_EQ(events[3].data, "last");
  }
}

TEST(SseParser, RefusesAnEventWithoutEnd) {
  SseParser parser(1000);
  Result<void> fed;
  for (int i = 0; i < 100 && fed; ++i) fed = parser.feed(std::string(100, 'x'));
  EXPECT_FALSE(fed);
}

}  // namespace
}  // namespace yoke::http
