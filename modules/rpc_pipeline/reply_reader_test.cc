#include "rpc_pipeline/reply_reader.h"

#include <cstring>
#include <limits>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace rpc_pipeline {
namespace {

using ::testing::Eq;
using ::testing::HasSubstr;
using ::testing::Optional;
using Wants = ReplyReader::Wants;

std::vector<std::byte> head_of(std::uint64_t size) {
  std::vector<std::byte> bytes(sizeof(size));
  std::memcpy(bytes.data(), &size, sizeof(size));
  return bytes;
}

TEST(ReplyReaderTest, WantsNothingWhenNothingIsDue) {
  ReplyReader reader;
  EXPECT_EQ(reader.wants(), Wants::kNothing);
  EXPECT_EQ(reader.remaining(), 0U);
  EXPECT_EQ(reader.due(), 0U);
  EXPECT_THAT(reader.accept_head(head_of(1)), Optional(HasSubstr("nobody asked for")));
}

TEST(ReplyReaderTest, ReadsHeadThenBody) {
  ReplyReader reader;
  reader.expect(Command::kGetTensor, 100);
  EXPECT_EQ(reader.wants(), Wants::kHead);
  EXPECT_EQ(reader.remaining(), 8U);
  EXPECT_EQ(reader.command(), Command::kGetTensor);
  EXPECT_EQ(reader.accept_head(head_of(100)), std::nullopt);
  EXPECT_EQ(reader.wants(), Wants::kBody);
  EXPECT_EQ(reader.remaining(), 100U);
  EXPECT_FALSE(reader.accept_body(99));
  EXPECT_EQ(reader.remaining(), 1U);
  EXPECT_TRUE(reader.accept_body(1));
  EXPECT_EQ(reader.wants(), Wants::kNothing);
}

TEST(ReplyReaderTest, TakesAnEmptyBodyWithoutABytes) {
  ReplyReader reader;
  reader.expect(Command::kGetTensor, 0);
  EXPECT_EQ(reader.accept_head(head_of(0)), std::nullopt);
  EXPECT_EQ(reader.wants(), Wants::kBody);
  EXPECT_EQ(reader.remaining(), 0U);
  EXPECT_TRUE(reader.accept_body(0));
  EXPECT_EQ(reader.due(), 0U);
}

TEST(ReplyReaderTest, ReadsAnswersInTheOrderOfTheirAnnouncement) {
  ReplyReader reader;
  reader.expect(Command::kHello, 3);
  reader.expect(Command::kDeviceCount, 4);
  EXPECT_EQ(reader.due(), 2U);
  EXPECT_EQ(reader.accept_head(head_of(3)), std::nullopt);
  EXPECT_TRUE(reader.accept_body(3));
  EXPECT_EQ(reader.command(), Command::kDeviceCount);
  reader.expect(Command::kAllocBuffer, 5);
  EXPECT_EQ(reader.accept_head(head_of(4)), std::nullopt);
  EXPECT_TRUE(reader.accept_body(4));
  EXPECT_EQ(reader.command(), Command::kAllocBuffer);
}

// Three answers, one of them empty, cut in two pieces at every byte.
TEST(ReplyReaderTest, ReadsTheSameHoweverTheBytesArrive) {
  const std::vector<std::uint64_t> sizes{3, 0, 5};
  std::vector<std::byte> stream;
  for (const std::uint64_t size : sizes) {
    const auto head = head_of(size);
    stream.insert(stream.end(), head.begin(), head.end());
    stream.resize(stream.size() + size);
  }
  for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
    ReplyReader reader;
    for (const std::uint64_t size : sizes) reader.expect(Command::kGetTensor, size);
    std::size_t whole = 0;
    std::size_t at = 0;
    while (reader.due() > 0) {
      ASSERT_LE(at, stream.size());
      const std::size_t end = at < cut ? cut : stream.size();
      const auto count =
          static_cast<std::size_t>(std::min<std::uint64_t>(reader.remaining(), end - at));
      if (reader.wants() == Wants::kHead) {
        ASSERT_EQ(reader.accept_head(std::span(stream).subspan(at, count)), std::nullopt);
      } else {
        whole += reader.accept_body(count) ? 1 : 0;
      }
      at += count;
    }
    EXPECT_EQ(at, stream.size()) << cut;
    EXPECT_EQ(whole, sizes.size()) << cut;
  }
}

TEST(ReplyReaderTest, RefusesAnySizeButTheAnnouncedOne) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  for (const std::uint64_t size :
       {std::uint64_t{0}, std::uint64_t{7}, std::uint64_t{9}, std::uint64_t{8} << 32, kMost}) {
    ReplyReader reader;
    reader.expect(Command::kGetAlignment, 8);
    EXPECT_THAT(reader.accept_head(head_of(size)),
                Optional(Eq("reply of " + std::to_string(size) +
                            " bytes to GET_ALIGNMENT where 8 were expected")));
  }
}

TEST(ReplyReaderTest, JudgesTheHeadOnlyWhenItIsWhole) {
  const auto head = head_of(5);
  ReplyReader reader;
  reader.expect(Command::kGetAlignment, 8);
  for (std::size_t i = 0; i < 7; ++i)
    EXPECT_EQ(reader.accept_head(std::span(head).subspan(i, 1)), std::nullopt);
  EXPECT_NE(reader.accept_head(std::span(head).subspan(7)), std::nullopt);
}

TEST(ReplyReaderTest, TakesNoMoreThanAHead) {
  ReplyReader reader;
  reader.expect(Command::kGetAlignment, 8);
  const std::vector<std::byte> nine(9);
  EXPECT_NE(reader.accept_head(nine), std::nullopt);
}

TEST(ReplyChecksTest, TheSameMajorProtocolAndNoNewerMinorOne) {
  EXPECT_EQ(check(HelloReply{7, 0, 0, 0, {}}), std::nullopt);
  EXPECT_EQ(check(HelloReply{7, 0, 9, 0, {}}), std::nullopt);
  EXPECT_THAT(check(HelloReply{6, 1, 0, 0, {}}),
              Optional(Eq("it speaks protocol 6.1, this client 7.0")));
  EXPECT_NE(check(HelloReply{8, 0, 0, 0, {}}), std::nullopt);
  EXPECT_NE(check(HelloReply{7, 1, 0, 0, {}}), std::nullopt);
}

TEST(ReplyChecksTest, NumbersWithinReason) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  EXPECT_NE(check(DeviceCountReply{0}), std::nullopt);
  EXPECT_EQ(check(DeviceCountReply{1}), std::nullopt);
  EXPECT_EQ(check(DeviceCountReply{16}), std::nullopt);
  EXPECT_NE(check(DeviceCountReply{17}), std::nullopt);

  EXPECT_EQ(check(MemoryReply{0, std::uint64_t{1} << 50}), std::nullopt);
  EXPECT_NE(check(MemoryReply{kMost, 1}), std::nullopt);
  EXPECT_NE(check(MemoryReply{1, kMost}), std::nullopt);

  EXPECT_EQ(check_alignment(NumberReply{1}), std::nullopt);
  EXPECT_EQ(check_alignment(NumberReply{128}), std::nullopt);
  EXPECT_NE(check_alignment(NumberReply{0}), std::nullopt);
  EXPECT_NE(check_alignment(NumberReply{96}), std::nullopt);
  EXPECT_NE(check_alignment(NumberReply{std::uint64_t{1} << 31}), std::nullopt);

  EXPECT_EQ(check_alloc_size(NumberReply{10}, 10), std::nullopt);
  EXPECT_NE(check_alloc_size(NumberReply{9}, 10), std::nullopt);
  EXPECT_NE(check_alloc_size(NumberReply{kMost}, 10), std::nullopt);
}

TEST(ReplyChecksTest, ABufferAsLargeAsAskedForAtAnAddressThatHoldsIt) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  EXPECT_EQ(check(AllocReply{1, 10}, 10), std::nullopt);
  EXPECT_EQ(check(AllocReply{1, 32}, 10), std::nullopt);
  EXPECT_EQ(check(AllocReply{0, 0}, 10), std::nullopt) << "no room is no nonsense";
  EXPECT_NE(check(AllocReply{1, 9}, 10), std::nullopt);
  EXPECT_NE(check(AllocReply{1, kMost}, 10), std::nullopt);

  EXPECT_EQ(check_base(NumberReply{1}, 10), std::nullopt);
  EXPECT_NE(check_base(NumberReply{0}, 10), std::nullopt);
  EXPECT_EQ(check_base(NumberReply{kMost - 10}, 10), std::nullopt);
  EXPECT_NE(check_base(NumberReply{kMost - 9}, 10), std::nullopt);
}

TEST(ReplyChecksTest, AFlagIsZeroOrOne) {
  EXPECT_EQ(check(FlagReply{0}), std::nullopt);
  EXPECT_EQ(check(FlagReply{1}), std::nullopt);
  EXPECT_NE(check(FlagReply{2}), std::nullopt);
  EXPECT_NE(check(FlagReply{255}), std::nullopt);
}

TEST(WireTest, EachCommandHasItsOwnName) {
  std::vector<std::string_view> names;
  for (int number = 0; number <= 17; ++number) {
    const std::string_view name = name_of(static_cast<Command>(number));
    EXPECT_NE(name, "?") << number;
    EXPECT_THAT(names, ::testing::Not(::testing::Contains(name)));
    names.push_back(name);
  }
  EXPECT_EQ(name_of(static_cast<Command>(18)), "?");
  EXPECT_EQ(name_of(Command::kGetTensor), "GET_TENSOR");
}

}  // namespace
}  // namespace rpc_pipeline
