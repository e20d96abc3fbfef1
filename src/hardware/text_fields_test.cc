#include "hardware/text_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hardware/test_support.h"

namespace yoke::hardware {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Optional;

TEST(ParseNumber, TakesDecimalAndHexadecimal) {
  EXPECT_EQ(parse_number("42"), 42u);
  EXPECT_EQ(parse_number("0x1F"), 31u);
  EXPECT_EQ(parse_number("18446744073709551615"), UINT64_MAX);
  for (const char* text : {"", "-1", "+1", " 1", "1 ", "0x", "1f", "18446744073709551616"}) {
    EXPECT_EQ(parse_number(text), std::nullopt) << text;
  }
}

TEST(TakeLine, EndsAtTheNewlineOrTheText) {
  std::string_view text = "one\n\nthree";
  EXPECT_EQ(take_line(text), "one");
  EXPECT_EQ(take_line(text), "");
  EXPECT_EQ(take_line(text), "three");
  EXPECT_EQ(text, "");
  EXPECT_EQ(take_line(text), "");
}

TEST(TakeWord, PassesOverWhiteSpace) {
  std::string_view text = " one\t two \n";
  EXPECT_EQ(take_word(text), "one");
  EXPECT_EQ(take_word(text), "two");
  EXPECT_EQ(take_word(text), "");
  EXPECT_EQ(text, "");
}

TEST(Field, TakesTheFirstLineWithExactlyThisKey) {
  constexpr std::string_view kText =
      "MemTotalX: 1\nMemTotal:  2 kB \nMemTotal: 3\nempty:\nplain 4\n";
  EXPECT_EQ(field(kText, "MemTotal", ':'), "2 kB");
  EXPECT_EQ(field(kText, "empty", ':'), "");
  EXPECT_EQ(field(kText, "plain", ' '), "4");
  EXPECT_EQ(field(kText, "Mem", ':'), std::nullopt);
  EXPECT_EQ(field(kText, "none", ':'), std::nullopt);
}

TEST(ParseNumberList, TakesNumbersAndRanges) {
  EXPECT_THAT(parse_number_list("0-3,8\n"), Optional(ElementsAre(0, 1, 2, 3, 8)));
  EXPECT_THAT(parse_number_list("5"), Optional(ElementsAre(5)));
  EXPECT_THAT(parse_number_list("\n"), Optional(IsEmpty()));
  EXPECT_EQ(parse_number_list("0-8191").value().size(), 8192u);
}

TEST(ParseNumberList, RefusesWhatIsMalformedOrEndless) {
  for (const char* text :
       {"3-1", "-1", "0-", "a", "1,,2", "0-8192", "0-99999999999999999999", "0-8191,0"}) {
    EXPECT_EQ(parse_number_list(text), std::nullopt) << text;
  }
}

TEST(Printable, ShowsForeignTextSafely) {
  EXPECT_EQ(printable("a\x1b[0m\xff\tb"), "a?[0m??b");
  EXPECT_EQ(printable("abcdef", 3), "abc...");
}

TEST(FakeRoot, UnpacksEveryKindOfEntry) {
  const FakeRoot root(
      "# A comment.\n== file /a/text\none\n\ntwo\n== file /a/empty\n== hex /a/bytes\n00 ff\n0a\n"
      "== fill /a/many 5 x\n== dir /b\n== link /c -> a/text\n== node /dev/kfd 0640 0 0\n");
  const HostFiles files = root.files();
  EXPECT_EQ(files.read("/a/text").value(), "one\n\ntwo\n");
  EXPECT_EQ(files.read("/a/empty").value(), "");
  EXPECT_EQ(files.read("/a/bytes").value(), std::string("\0\xff\n", 3));
  EXPECT_EQ(files.read("/a/many").value(), "xxxxx");
  EXPECT_TRUE(files.info("/b").value().directory);
  EXPECT_EQ(files.link_name("/c").value(), "text");
  EXPECT_EQ(files.info("/dev/kfd").value().mode, 0640u);
}

TEST(FakeRoot, RefusesWhatIsMalformedOrLeadsOut) {
  EXPECT_THROW(FakeRoot("== banana /x\n"), std::runtime_error);
  EXPECT_THROW(FakeRoot("== file x\n"), std::runtime_error);
  EXPECT_THROW(FakeRoot("== file /../x\n"), std::runtime_error);
  EXPECT_THROW(FakeRoot("== link /out -> /usr\n== file /out/x\n"), std::runtime_error);
  EXPECT_THROW(FakeRoot::machine("none"), std::runtime_error);
}

}  // namespace
}  // namespace yoke::hardware
