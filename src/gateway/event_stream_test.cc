#include "gateway/event_stream.h"

#include <gtest/gtest.h>

namespace yoke::gateway {
namespace {

constexpr std::string_view kProgress =
    R"(data: {"choices":[{"delta":{"role":"assistant","content":null}}],)"
    R"("prompt_progress":{"total":9,"cache":0,"processed":4,"time_ms":1}})"
    "\n\n";
constexpr std::string_view kToken = R"(data: {"choices":[{"delta":{"content":"a"}}]})"
                                    "\n\n";

TEST(EventStream, DropsProgressUpToTheFirstToken) {
  const std::string stream =
      std::string(kProgress) + std::string(kProgress) + std::string(kToken) + std::string(kToken);
  for (std::size_t cut = 1; cut <= stream.size(); ++cut) {
    EventStream events;
    std::string out;
    for (std::size_t at = 0; at < stream.size(); at += cut) {
      out += events.feed(std::string_view(stream).substr(at, cut));
    }
    EXPECT_TRUE(events.begun());
    EXPECT_EQ(out, std::string(kToken) + std::string(kToken)) << "pieces of " << cut;
  }
}

TEST(EventStream, DropsNothingLater) {
  EventStream events;
  events.feed(kToken);
  EXPECT_EQ(events.feed(kProgress), kProgress);
}

TEST(EventStream, ATextThatSpeaksOfProgressIsNone) {
  EventStream events;
  const std::string token = R"(data: {"choices":[{"delta":{"content":"\"prompt_progress\": 1"}}]})"
                            "\n\n";
  EXPECT_EQ(events.feed(token), token);
}

TEST(EventStream, PingsPass) {
  EventStream events;
  EXPECT_EQ(events.feed(":\n\n" + std::string(kProgress)), ":\n\n");
  EXPECT_FALSE(events.begun());
}

TEST(EventStream, HandsOutAnErrorByItself) {
  EventStream events;
  EXPECT_EQ(events.feed(std::string(kProgress) + "data: {\"error\":{\"code\":500}}\n\n"), "");
  EXPECT_TRUE(events.begun());
  EXPECT_EQ(events.error(), "{\"error\":{\"code\":500}}");
}

TEST(EventStream, AnErrorLaterEndsWhatIsHandedOn) {
  const std::string stream =
      std::string(kToken) + std::string(kToken) + "data: {\"error\":{}}\n\n" + std::string(kToken);
  for (std::size_t cut = 1; cut <= stream.size(); ++cut) {
    EventStream events;
    std::string out;
    for (std::size_t at = 0; at < stream.size(); at += cut) {
      out += events.feed(std::string_view(stream).substr(at, cut));
    }
    EXPECT_EQ(out, std::string(kToken) + std::string(kToken)) << "pieces of " << cut;
    EXPECT_EQ(events.error(), "{\"error\":{}}");
  }
}

TEST(EventStream, KnowsTheErrorsOfBothEngines) {
  for (const char* data :
       {R"({"error":{"code":500}})", R"({"error": {"message": "x"}})",
        R"({"object":"error","message":"x"})", R"({"object": "error", "message": "x"})"}) {
    EXPECT_TRUE(is_error_event(data)) << data;
    const std::string piece = "data: a\n\ndata: " + std::string(data) + "\n\n";
    EXPECT_EQ(find_error_event(piece), 9u);
  }
  EXPECT_FALSE(is_error_event(R"({"object":"chat.completion.chunk"})"));
  EXPECT_EQ(find_error_event("data: a\n\ndata: [DONE]\n\n"), std::string_view::npos);
  EXPECT_EQ(find_error_event(""), std::string_view::npos);
}

TEST(EventStream, KeepsHalfAnEvent) {
  EventStream events;
  EXPECT_EQ(events.feed(std::string(kToken) + "data: {\"half"), kToken);
  EXPECT_EQ(events.feed("\":1}\n"), "");
  EXPECT_EQ(events.feed("\n"), "data: {\"half\":1}\n\n");
}

}  // namespace
}  // namespace yoke::gateway
