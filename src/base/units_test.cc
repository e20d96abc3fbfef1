#include "base/units.h"

#include <gtest/gtest.h>

namespace yoke {
namespace {

using std::chrono::milliseconds;

TEST(Bytes, AreFormattedInDecimalUnits) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(98'362'432), "98.4 MB");
  EXPECT_EQ(format_bytes(999'960), "1.0 MB");
  EXPECT_EQ(format_bytes(374'764'330'144), "374.8 GB");
}

TEST(Bytes, OfMemoryAreFormattedInBinaryUnits) {
  EXPECT_EQ(format_memory(0), "0 B");
  EXPECT_EQ(format_memory(512ull << 20), "512 MiB");
  EXPECT_EQ(format_memory(120ull << 30), "120 GiB");
  EXPECT_EQ(format_memory(103'079'215'104), "96 GiB");
  EXPECT_EQ(format_memory(25'276'514'304), "23.5 GiB");
  EXPECT_EQ(format_memory((1ull << 30) - 1), "1.0 GiB");
}

TEST(Bytes, AreParsedWithDecimalAndBinaryUnits) {
  EXPECT_EQ(parse_bytes("4096"), 4096u);
  EXPECT_EQ(parse_bytes("64 MiB"), 64u << 20);
  EXPECT_EQ(parse_bytes("120GiB"), 120ull << 30);
  EXPECT_EQ(parse_bytes("1.5KB"), 1500u);
}

TEST(Bytes, RefuseWhatIsNoSize) {
  for (const char* text : {"", "GiB", "-1", "12 parsecs", "1e400", "nan", "64MiBs"}) {
    EXPECT_FALSE(parse_bytes(text)) << text;
  }
}

TEST(Duration, IsFormattedByMagnitude) {
  EXPECT_EQ(format_duration(milliseconds(350)), "350 ms");
  EXPECT_EQ(format_duration(milliseconds(4200)), "4.2 s");
  EXPECT_EQ(format_duration(milliseconds(200'000)), "3 min 20 s");
  EXPECT_EQ(format_duration(milliseconds(7'500'000)), "2 h 5 min");
  EXPECT_EQ(format_duration(milliseconds(273'600'000)), "3 d 4 h");
}

TEST(Duration, IsParsedAndABareNumberIsSeconds) {
  EXPECT_EQ(parse_duration("250ms"), milliseconds(250));
  EXPECT_EQ(parse_duration("90s"), milliseconds(90'000));
  EXPECT_EQ(parse_duration("5m"), milliseconds(300'000));
  EXPECT_EQ(parse_duration("30"), milliseconds(30'000));
  EXPECT_FALSE(parse_duration("soon"));
  EXPECT_FALSE(parse_duration("-5s"));
}

TEST(FormatCount, AsParametersAreCounted) {
  EXPECT_EQ(format_count(512), "512");
  EXPECT_EQ(format_count(134'515'008), "134.5 M");
  EXPECT_EQ(format_count(8'030'261'248), "8.03 B");
  EXPECT_EQ(format_count(1'026'470'731'056), "1.03 T");
}

}  // namespace
}  // namespace yoke
