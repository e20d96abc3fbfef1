#include "cli/ps.h"

#include <sstream>

#include <gtest/gtest.h>

namespace yoke::cli {
namespace {

std::string table_of(std::string_view reply, bool wide = false) {
  const auto text = format_instances(*parse_json(reply), {}, wide);
  return text ? *text : text.error().text();
}

// The row of one instance, without the titles.
std::string row_of(std::string_view fields) {
  const std::string text = table_of(fmt::format(R"({{"instances":[{{"model":"m",{}}}]}})", fields));
  return text.substr(text.find('\n') + 1);
}

constexpr std::string_view kTwo = R"({"version":"0.1.0","instances":[
    {"model":"smollm2","state":"ready","engine":"llama.cpp 0.5.0","backend":"cpu","pid":123,
     "port":40001,"uptime_s":12.3,"restarts":0,"active_requests":2,"error":null,"pinned":true,
     "planned_bytes":1395864371,"memory_bytes":1288490188,"n_ctx":8192,"waiting":0,
     "last_used_s":3,"next":"","load_time_s":0.8},
    {"model":"big","state":"failed","engine":"llama.cpp 0.5.0","backend":"vulkan","pid":0,
     "port":40000,"uptime_s":7.5,"restarts":3,"active_requests":3,"pinned":false,
     "planned_bytes":21474836480,"memory_bytes":null,"n_ctx":0,"waiting":3,"last_used_s":null,
     "next":"starts again in 4 s","load_time_s":0,
     "error":{"code":"model_file_missing","message":"There is no\u001b[31m file x.gguf."}}],
    "memory":[{"name":"system memory","budget":21474836480,"used":1395864371,"promised":0},
              {"name":"NVIDIA RTX 4090","budget":25769803776,"used":0,"promised":1073741824}]})";

TEST(FormatInstances, ShowsWhereMemoryGoesAndWhatComesNext) {
  EXPECT_EQ(
      table_of(kTwo),
      "MODEL    STATE   BACKEND          MEMORY  CONTEXT       REQUESTS  LAST USED  NEXT\n"
      "smollm2  ready   cpu      1.2 of 1.3 GiB     8192              2        now  stays, pinned\n"
      "big      failed  vulkan           20 GiB        -  0 + 3 waiting          -  starts "
      "again in 4 s\n"
      "  There is no file x.gguf.\n"
      "\n"
      "system memory: 1.3 of 20 GiB for models\n"
      "NVIDIA RTX 4090: 0 B of 24 GiB for models (1 GiB promised)\n");
}

TEST(FormatInstances, IsNarrowEnough) {
  std::string text = table_of(kTwo);
  text.resize(text.find("  There is no file"));
  std::istringstream lines(text);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) EXPECT_LE(line.size(), 100) << line;
  EXPECT_EQ(count, 3);
}

TEST(FormatInstances, WideShowsTheProcesses) {
  const std::string text = table_of(kTwo, true);
  EXPECT_TRUE(
      text.starts_with("MODEL    STATE   ENGINE           BACKEND  PID   PORT  UPTIME  "
                       "RESTARTS          MEMORY"))
      << text;
  EXPECT_NE(text.find("smollm2  ready   llama.cpp 0.5.0  cpu      123  40001  12.3 s         0"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("big      failed  llama.cpp 0.5.0  vulkan     -      -       -         3"),
            std::string::npos)
      << text;
}

TEST(FormatInstances, ShowsHowLongAgo) {
  const auto last_used = [](double seconds) {
    const std::string row = row_of(fmt::format(R"("last_used_s":{})", seconds));
    const auto from = row.find("0  ") + 3;
    return row.substr(from, row.rfind("  ") - from);
  };
  EXPECT_EQ(last_used(0.2), " just now");
  EXPECT_EQ(last_used(59.9), " 59 s ago");
  EXPECT_EQ(last_used(60), "1 min ago");
  EXPECT_EQ(last_used(7300), "  2 h ago");
  EXPECT_EQ(last_used(200000), "  2 d ago");
  EXPECT_EQ(last_used(1e300), "11574 d ago");
}

TEST(FormatInstances, ShowsMemoryOfAnySize) {
  const auto has = [](std::string_view fields, std::string_view text) {
    return row_of(fields).find(text) != std::string::npos;
  };
  EXPECT_TRUE(
      has(R"("planned_bytes":1395864371,"memory_bytes":524288000)", " 500 MiB of 1.3 GiB "));
  EXPECT_TRUE(has(R"("planned_bytes":0,"memory_bytes":524288000)", " 500 MiB "));
  EXPECT_TRUE(has(R"("planned_bytes":524288000,"memory_bytes":null)", " 500 MiB "));
  EXPECT_TRUE(has(R"("planned_bytes":-5)", "m      -"));
}

TEST(FormatInstances, APinnedModelThatIsNotReady) {
  EXPECT_NE(row_of(R"("pinned":true,"next":"ready soon")").find("ready soon, pinned"),
            std::string::npos);
}

TEST(FormatInstances, TakesTheReplyOfAnOlderServer) {
  EXPECT_EQ(table_of(R"({"instances":[{"model":"m","state":"ready","backend":"cpu","pid":1}]})"),
            "MODEL  STATE  BACKEND  MEMORY  CONTEXT  REQUESTS  LAST USED  NEXT\n"
            "m      ready  cpu           -        -         0          -  -\n");
}

TEST(FormatInstances, SaysThatThereAreNone) {
  EXPECT_EQ(*format_instances(*parse_json(R"({"instances":[]})"), {}),
            "No models are configured.\n");
}

TEST(FormatInstances, RefusesAnotherForm) {
  EXPECT_FALSE(format_instances(*parse_json("[]"), {}));
  EXPECT_FALSE(format_instances(*parse_json("{}"), {}));
}

}  // namespace
}  // namespace yoke::cli
