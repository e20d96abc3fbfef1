#include "gateway/stream_start.h"

#include <gtest/gtest.h>

namespace yoke::gateway {
namespace {

constexpr std::string_view kProgress =
    R"(data: {"choices":[{"delta":{"role":"assistant","content":null}}],)"
    R"("prompt_progress":{"total":9,"cache":0,"processed":4,"time_ms":1}})"
    "\n\n";
constexpr std::string_view kToken = R"(data: {"choices":[{"delta":{"content":"a"}}]})"
                                    "\n\n";

TEST(StreamStart, DropsProgressUpToTheFirstToken) {
  const std::string stream =
      std::string(kProgress) + std::string(kProgress) + std::string(kToken) + std::string(kToken);
  for (std::size_t cut = 1; cut <= stream.size(); ++cut) {
    StreamStart start;
    std::string out;
    for (std::size_t at = 0; at < stream.size(); at += cut) {
      out += start.feed(std::string_view(stream).substr(at, cut));
    }
    EXPECT_TRUE(start.over());
    EXPECT_EQ(out, std::string(kToken) + std::string(kToken)) << "pieces of " << cut;
  }
}

TEST(StreamStart, LooksAtNothingLater) {
  StreamStart start;
  start.feed(kToken);
  EXPECT_EQ(start.feed(kProgress), kProgress);
}

TEST(StreamStart, ATextThatSpeaksOfProgressIsNone) {
  StreamStart start;
  const std::string token = R"(data: {"choices":[{"delta":{"content":"\"prompt_progress\": 1"}}]})"
                            "\n\n";
  EXPECT_EQ(start.feed(token), token);
}

TEST(StreamStart, PingsPass) {
  StreamStart start;
  EXPECT_EQ(start.feed(":\n\n" + std::string(kProgress)), ":\n\n");
  EXPECT_FALSE(start.over());
}

TEST(StreamStart, HandsOutAnErrorByItself) {
  StreamStart start;
  EXPECT_EQ(start.feed(std::string(kProgress) + "data: {\"error\":{\"code\":500}}\n\nrest"),
            "rest");
  EXPECT_TRUE(start.over());
  EXPECT_EQ(start.error(), "{\"error\":{\"code\":500}}");
}

TEST(StreamStart, GivesUpOnWhatIsNoEvent) {
  StreamStart start;
  const std::string noise(100'000, 'x');
  EXPECT_EQ(start.feed(noise), noise);
  EXPECT_TRUE(start.over());
}

TEST(StreamStart, KeepsAnUnfinishedEventForTheEnd) {
  StreamStart start;
  EXPECT_EQ(start.feed("data: {\"half"), "");
  EXPECT_EQ(start.rest(), "data: {\"half");
}

}  // namespace
}  // namespace yoke::gateway
