#include "cli/quarantine.h"

#include <gtest/gtest.h>

namespace yoke::cli {
namespace {

TEST(FormatQuarantines, ShowsOneRowEach) {
  const auto reply = parse_json(R"({"quarantines":[
      {"model":"chat","backend":"vulkan","engine":"llama.cpp 0.5.0","driver":"RADV Mesa 25.2.1",
       "failure":"gpu_hang","message":"The GPU\u001b[31m hung.","since_ms":1,"until_ms":2,
       "remaining_s":560.25,"count":2},
      {"model":"m","backend":"rocm","engine":"llama.cpp 0.5.0","driver":"","failure":"crash",
       "message":"","remaining_s":1e300,"count":1}]})");
  EXPECT_EQ(*format_quarantines(*reply, {}),
            "MODEL  BACKEND  FAILURE   TIMES      ENDS IN\n"
            "chat   vulkan   gpu_hang      2   9 min 20 s\n"
            "  The GPU hung.\n"
            "  llama.cpp 0.5.0\n"
            "  RADV Mesa 25.2.1\n"
            "m      rocm     crash         1  11574 d 1 h\n"
            "  llama.cpp 0.5.0\n");
}

TEST(FormatQuarantines, SaysThatThereAreNone) {
  EXPECT_EQ(*format_quarantines(*parse_json(R"({"quarantines":[]})"), {}),
            "No backend is in quarantine.\n");
}

TEST(FormatQuarantines, RefusesAnotherForm) {
  EXPECT_FALSE(format_quarantines(*parse_json("[]"), {}));
  EXPECT_FALSE(format_quarantines(*parse_json("{}"), {}));
  EXPECT_FALSE(format_quarantines(*parse_json(R"({"quarantines":[1]})"), {}));
}

TEST(RemainingTime, IsWhatTheServerSays) {
  const auto remaining = [](std::string_view text) {
    const auto value = parse_json(text);
    return remaining_time(*JsonFields::of(*value));
  };
  EXPECT_EQ(remaining(R"({"remaining_s":0.5})"), "500 ms");
  EXPECT_EQ(remaining(R"({"remaining_s":90})"), "1 min 30 s");
  EXPECT_EQ(remaining(R"({"remaining_s":-5})"), "0 s");
  EXPECT_EQ(remaining("{}"), "0 s");
}

TEST(FormatCleared, CountsThem) {
  EXPECT_EQ(*format_cleared(*parse_json(R"({"cleared":0})")),
            "Nothing of that was in quarantine.\n");
  EXPECT_EQ(*format_cleared(*parse_json(R"({"cleared":1})")), "1 quarantine cleared.\n");
  EXPECT_EQ(*format_cleared(*parse_json(R"({"cleared":2})")), "2 quarantines cleared.\n");
  EXPECT_FALSE(format_cleared(*parse_json("{}")));
}

TEST(QuarantineClear, RefusesABackendThatThereCantBe) {
  QuarantineOptions options;
  options.backend = "vulcan";
  const auto done = quarantine_clear(options);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, kInvalidArgument);
  EXPECT_EQ(done.error().text(), "There is no backend 'vulcan'. There is vulkan, rocm, cuda, cpu.");
}

}  // namespace
}  // namespace yoke::cli
