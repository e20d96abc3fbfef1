#include "supervisor/log_ring.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/task_group.h"

namespace yoke::supervisor {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::IsEmpty;
using Clock = std::chrono::steady_clock;

TEST(CleanText, KeepsTextInAnyLanguage) {
  EXPECT_EQ(clean_text("Ein Jöch, 멍에, 🐂 and €"), "Ein Jöch, 멍에, 🐂 and €");
}

TEST(CleanText, TakesOutEscapeSequences) {
  EXPECT_EQ(clean_text("\x1b[1;31mred\x1b[0m"), "red");
  EXPECT_EQ(clean_text("\x1b[?25lhidden cursor\x1b[K"), "hidden cursor");
  EXPECT_EQ(clean_text("\x1b]0;a title\x07text"), "text");
  EXPECT_EQ(clean_text("\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\"), "link");
  EXPECT_EQ(clean_text("\x1b(Bplain\x1b="), "plain");
}

TEST(CleanText, ABrokenEscapeSequenceCostsOnlyItself) {
  EXPECT_EQ(clean_text("a\x1b"), "a");
  EXPECT_EQ(clean_text("a\x1b[1;3"), "a");
  EXPECT_EQ(clean_text("a\x1b]never ends"), "anever ends");
  EXPECT_EQ(clean_text("\x1b[1\x01m"), "m");
  EXPECT_EQ(clean_text("\x1b]t\x1b[1mbold"), "bold");
}

TEST(CleanText, TakesOutControlCharacters) {
  EXPECT_EQ(clean_text(std::string_view("a\0b\x07\x08\x7f\tc", 8)), "ab c");
  EXPECT_EQ(clean_text("a\xc2\x9b\x31mb\xc2\xa0"), "a1mb\xc2\xa0") << "U+009B, but not U+00A0";
}

TEST(CleanText, ReplacesWhatIsNoUtf8) {
  EXPECT_EQ(clean_text("a\xff\x62"), "a\uFFFDb");
  EXPECT_EQ(clean_text("\xc0\xaf"), "\uFFFD\uFFFD") << "overlong";
  EXPECT_EQ(clean_text("\xed\xa0\x80"), "\uFFFD\uFFFD\uFFFD") << "a surrogate";
  EXPECT_EQ(clean_text("\xf4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD") << "above U+10FFFF";
  EXPECT_EQ(clean_text("\xe2\x82"), "\uFFFD") << "cut short by the end";
  EXPECT_EQ(clean_text("\xf0\x9f\x90x"), "\uFFFDx") << "cut short by a letter";
}

struct Splitter {
  std::vector<std::string> lines;
  LineSplitter splitter;
  LineSplitter::Sink sink = [this](std::string_view line) { lines.emplace_back(line); };

  void feed(std::string_view bytes) { splitter.feed(bytes, sink); }
  void finish() { splitter.finish(sink); }
};

TEST(LineSplitter, EndsLinesAtLfAndCrLfAndCr) {
  Splitter s;
  s.feed("one\ntwo\r\n\nthree\r 10%\r 20%\rdone\n");
  EXPECT_THAT(s.lines, ElementsAre("one", "two", "", "three", " 10%", " 20%", "done"));
}

TEST(LineSplitter, DropsEmptyLinesThatALoneCrEnds) {
  Splitter s;
  s.feed("\r\r50%\n");
  EXPECT_THAT(s.lines, ElementsAre("50%"));
}

TEST(LineSplitter, TheWayTheBytesComeInMakesNoDifference) {
  const std::string_view bytes = "a\r\nb\rc\n\n\x1b[31mrouge é\x1b[0m\r\n\xff last";
  Splitter whole;
  whole.feed(bytes);
  whole.finish();
  EXPECT_THAT(whole.lines, ElementsAre("a", "b", "c", "", "rouge é", "\uFFFD last"));
  for (std::size_t first = 0; first <= bytes.size(); ++first) {
    Splitter halves;
    halves.feed(bytes.substr(0, first));
    halves.feed(bytes.substr(first));
    halves.finish();
    EXPECT_EQ(halves.lines, whole.lines) << "cut at " << first;
  }
}

TEST(LineSplitter, FinishGivesTheLineWithoutAnEndOnce) {
  Splitter s;
  s.feed("no newline");
  EXPECT_THAT(s.lines, IsEmpty());
  s.finish();
  s.finish();
  EXPECT_THAT(s.lines, ElementsAre("no newline"));
}

TEST(LineSplitter, CutsALongLineBetweenCharacters) {
  Splitter s;
  for (int i = 0; i < 10'000; ++i) s.feed("é");
  s.feed("\nnext\n");
  ASSERT_EQ(s.lines.size(), 2u);
  EXPECT_LE(s.lines[0].size(), kMaxLineBytes);
  EXPECT_GT(s.lines[0].size(), kMaxLineBytes - 4);
  EXPECT_THAT(s.lines[0], EndsWith("é …[cut]"));
  EXPECT_EQ(s.lines[1], "next");
}

TEST(LineSplitter, ALineOfExactlyTheLimitIsWhole) {
  Splitter s;
  s.feed(std::string(kMaxLineBytes, 'x'));
  s.feed("\n");
  s.feed(std::string(kMaxLineBytes + 1, 'x'));
  s.feed("\n");
  ASSERT_EQ(s.lines.size(), 2u);
  EXPECT_EQ(s.lines[0], std::string(kMaxLineBytes, 'x'));
  EXPECT_EQ(s.lines[1].size(), kMaxLineBytes);
  EXPECT_THAT(s.lines[1], EndsWith("x …[cut]"));
}

TEST(LineSplitter, BytesThatGrowByCleaningStayWithinTheLimit) {
  Splitter s;
  s.feed(std::string(kMaxLineBytes, '\xff') + "\n");
  ASSERT_EQ(s.lines.size(), 1u);
  EXPECT_LE(s.lines[0].size(), kMaxLineBytes);
  EXPECT_THAT(s.lines[0], EndsWith("\uFFFD …[cut]"));
}

std::vector<std::string> texts(const std::vector<LogLine>& lines) {
  std::vector<std::string> result;
  for (const LogLine& line : lines) result.push_back(line.text);
  return result;
}

TEST(LogRing, NumbersItsLinesAndHandsThemOut) {
  boost::asio::io_context context;
  LogRing ring(context.get_executor());
  EXPECT_EQ(ring.last_seq(), 0u);
  EXPECT_THAT(ring.tail(5), IsEmpty());
  EXPECT_THAT(ring.since(0), IsEmpty());
  const auto before = std::chrono::system_clock::now();
  EXPECT_EQ(ring.append("a"), 1u);
  EXPECT_EQ(ring.append("b"), 2u);
  EXPECT_EQ(ring.append("c"), 3u);
  EXPECT_THAT(texts(ring.tail(2)), ElementsAre("b", "c"));
  EXPECT_THAT(texts(ring.tail(9)), ElementsAre("a", "b", "c"));
  EXPECT_THAT(texts(ring.since(1)), ElementsAre("b", "c"));
  EXPECT_THAT(ring.since(3), IsEmpty());
  EXPECT_THAT(ring.since(99), IsEmpty());
  const LogLine last = ring.tail(1).front();
  EXPECT_EQ(last.seq, 3u);
  EXPECT_GE(last.time, before);
  EXPECT_LE(last.time, std::chrono::system_clock::now());
}

TEST(LogRing, DropsTheOldestLinesWhenItIsFull) {
  boost::asio::io_context context;
  LogRing ring(context.get_executor(), 10'000);
  for (int i = 1; i <= 1000; ++i) ring.append("line " + std::to_string(i));
  const std::vector<LogLine> kept = ring.since(0);
  ASSERT_FALSE(kept.empty());
  EXPECT_LT(kept.size(), 250u);
  EXPECT_EQ(kept.back().text, "line 1000");
  EXPECT_EQ(kept.front().seq, ring.dropped() + 1);
  EXPECT_EQ(ring.dropped() + kept.size(), 1000u);
}

TEST(LogRing, EmptyLinesAreBoundedToo) {
  boost::asio::io_context context;
  LogRing ring(context.get_executor(), 10'000);
  for (int i = 0; i < 100'000; ++i) ring.append("");
  EXPECT_LT(ring.tail(100'000).size(), 1000u);
}

TEST(LogRing, KeepsTheLastLineWhateverItsSize) {
  boost::asio::io_context context;
  LogRing ring(context.get_executor(), 100);
  ring.append("short");
  ring.append(std::string(20'000, 'x'));
  const std::vector<LogLine> kept = ring.since(0);
  ASSERT_EQ(kept.size(), 1u);
  EXPECT_EQ(kept[0].text.size(), kMaxLineBytes);
  EXPECT_THAT(kept[0].text, EndsWith("x …[cut]"));
}

io::Task<void> wait_beyond(LogRing& ring, std::uint64_t seq, Clock::duration limit, int& woken) {
  co_await ring.wait_beyond(seq, Clock::now() + limit);
  ++woken;
}

TEST(LogRing, WakesThoseWhoWaitForALine) {
  boost::asio::io_context context;
  LogRing ring(context.get_executor());
  int for_first = 0;
  int for_second = 0;
  boost::asio::co_spawn(context, wait_beyond(ring, 0, 1h, for_first), boost::asio::detached);
  boost::asio::co_spawn(context, wait_beyond(ring, 1, 1h, for_second), boost::asio::detached);
  context.poll();
  EXPECT_EQ(for_first, 0);
  ring.append("a");
  context.poll();
  EXPECT_EQ(for_first, 1);
  EXPECT_EQ(for_second, 0) << "line 1 is not beyond 1";
  ring.append("b");
  context.poll();
  EXPECT_EQ(for_second, 1);
}

TEST(LogRing, DoesNotWaitForALineThatIsThere) {
  boost::asio::io_context context;
  LogRing ring(context.get_executor());
  ring.append("a");
  int woken = 0;
  boost::asio::co_spawn(context, wait_beyond(ring, 0, 1h, woken), boost::asio::detached);
  context.poll();
  EXPECT_EQ(woken, 1);
}

TEST(LogRing, AWaitEndsAtItsDeadlineOrWhenCancelled) {
  boost::asio::io_context context;
  LogRing ring(context.get_executor());
  int late = 0;
  int cancelled = 0;
  io::TaskGroup group(context.get_executor());
  boost::asio::co_spawn(context, wait_beyond(ring, 0, 5ms, late), boost::asio::detached);
  group.spawn(wait_beyond(ring, 0, 1h, cancelled));
  context.poll();
  group.cancel();
  context.run_for(5s);
  EXPECT_EQ(late, 1);
  EXPECT_EQ(cancelled, 1);
}

}  // namespace
}  // namespace yoke::supervisor
