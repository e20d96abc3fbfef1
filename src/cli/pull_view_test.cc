#include "cli/pull_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yoke::cli {
namespace {

using namespace std::chrono_literals;
using models::PullProgress;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::uint64_t kMb = 1'000'000;
const PullView::Clock::time_point kStart{};

PullProgress at(std::uint64_t done, bool checking = false) {
  return {done * kMb, 100 * kMb, "hf:org/repo/model.gguf", checking};
}

TEST(RateMeter, OverTheLastSeconds) {
  RateMeter rate;
  rate.add(kStart, 0);
  EXPECT_EQ(rate.bytes_per_second(), std::nullopt);
  for (int second = 1; second <= 60; ++second) rate.add(kStart + second * 1s, second * kMb);
  EXPECT_DOUBLE_EQ(*rate.bytes_per_second(), 1e6);
  for (int second = 61; second <= 90; ++second) rate.add(kStart + second * 1s, 60 * kMb);
  EXPECT_DOUBLE_EQ(*rate.bytes_per_second(), 0);
}

TEST(RateMeter, AFileThatBeginsAnew) {
  RateMeter rate;
  rate.add(kStart, 50 * kMb);
  rate.add(kStart + 2s, 0);
  EXPECT_EQ(rate.bytes_per_second(), std::nullopt);
}

TEST(PullView, Lines) {
  PullView view(PullView::Style::kLines, 0);
  EXPECT_EQ(view.progress(at(0), kStart), "model.gguf: 0 %, 0 B of 100.0 MB\n");
  EXPECT_EQ(view.progress(at(5), kStart + 5s), "");
  EXPECT_EQ(view.progress(at(10), kStart + 10s),
            "model.gguf: 10 %, 10.0 MB of 100.0 MB, 1.0 MB/s, 1 min 30 s left\n");
  EXPECT_EQ(view.progress(at(100, true), kStart + 11s),
            "model.gguf: 100 %, 100.0 MB of 100.0 MB, checking\n");
  EXPECT_THAT(view.progress(at(100), kStart + 12s), HasSubstr("100 %"));
  EXPECT_EQ(view.end(), "");
}

TEST(PullView, ABarFitsItsTerminal) {
  for (const int width : {20, 40, 80, 200}) {
    PullView view(PullView::Style::kBar, width);
    view.progress(at(0), kStart);
    const std::string text = view.progress(at(42), kStart + 10s);
    EXPECT_TRUE(text.starts_with('\r'));
    EXPECT_TRUE(text.ends_with("\x1b[K"));
    EXPECT_LT(display_width(text.substr(1, text.size() - 4)), static_cast<std::size_t>(width));
    EXPECT_THAT(text, HasSubstr("42 %"));
  }
}

TEST(PullView, ANoteTakesTheBarAway) {
  PullView view(PullView::Style::kBar, 80);
  view.progress(at(1), kStart);
  EXPECT_EQ(view.note("It waits.\x1b[2J"), "\r\x1b[KIt waits.\n");
  EXPECT_EQ(view.end(), "");
}

TEST(PullView, NamesCannotDriveTheTerminal) {
  PullView view(PullView::Style::kLines, 0);
  PullProgress progress = at(1);
  progress.file = "hf:a/b/\x1b]0;x\x07.gguf";
  EXPECT_THAT(view.progress(progress, kStart), Not(HasSubstr("\x1b")));
}

TEST(PullView, Json) {
  PullView view(PullView::Style::kJson, 0);
  view.progress(at(0), kStart);
  EXPECT_EQ(view.progress(at(10), kStart + 10s),
            R"({"event":"progress","file":"hf:org/repo/model.gguf","done":10000000,)"
            R"("total":100000000,"checking":false,"bytes_per_second":1000000,"seconds_left":90})"
            "\n");
  EXPECT_EQ(view.note("a"), "{\"event\":\"note\",\"text\":\"a\"}\n");
}

}  // namespace
}  // namespace yoke::cli
