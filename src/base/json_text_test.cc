#include "base/json_text.h"

#include <limits>

#include <gtest/gtest.h>

#include "base/json_fields.h"

namespace yoke {
namespace {

TEST(JsonText, WritesNumbersAsPeopleDo) {
  EXPECT_EQ(json_text(parse_json(R"([12.345, -0.5, 3, 1e300, 18446744073709551615])").value()),
            "[12.345,-0.5,3,1e+300,18446744073709551615]");
}

TEST(JsonText, IsReadBackAsTheSameValue) {
  const auto value =
      parse_json(R"({"a":[1.1,0.1,{"b":"x\"\n\u00e9"}],"c":null,"d":true,"":{},"e":[]})").value();
  EXPECT_EQ(parse_json(json_text(value)).value(), value);
  EXPECT_EQ(parse_json(pretty_json_text(value)).value(), value);
}

TEST(JsonText, HasNoNumberThatJsonLacks) {
  EXPECT_EQ(json_text(boost::json::value(std::numeric_limits<double>::infinity())), "null");
}

TEST(JsonText, BreaksLongLinesOnly) {
  const std::string word(60, 'x');
  boost::json::value value{{"words", {word, word}}, {"small", {{"n", 1}}}};
  EXPECT_EQ(pretty_json_text(value), "{\n  \"words\": [\n    \"" + word + "\",\n    \"" + word +
                                         "\"\n  ],\n  \"small\": {\"n\":1}\n}");
}

TEST(Utf8Json, ReplacesWhatIsNoUtf8) {
  EXPECT_EQ(utf8_json("a\xff\xc3\xa9\xed\xa0\x80"),
            "a\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_EQ(utf8_json(""), "");
}

}  // namespace
}  // namespace yoke
