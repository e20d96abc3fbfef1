#include "cli/ps.h"

#include <gtest/gtest.h>

#include "base/json_fields.h"

namespace yoke::cli {
namespace {

TEST(FormatInstances, ShowsOneRowEach) {
  const auto reply = parse_json(R"({"version":"0.1.0","instances":[
      {"model":"smollm2","state":"ready","engine":"llama.cpp 0.5.0","backend":"cpu","pid":123,
       "port":40001,"uptime_s":12.3,"restarts":0,"active_requests":2,"error":null},
      {"model":"x","state":"failed","engine":"llama.cpp 0.5.0","backend":"cpu","pid":0,"port":null,
       "uptime_s":7.5,"restarts":3,"active_requests":0,
       "error":{"code":"model_file_missing","message":"There is no\u001b[31m file x.gguf."}}]})");
  EXPECT_EQ(*format_instances(*reply, {}),
            "MODEL    STATE   ENGINE           BACKEND  PID   PORT  UPTIME  RESTARTS  REQUESTS\n"
            "smollm2  ready   llama.cpp 0.5.0  cpu      123  40001  12.3 s         0         2\n"
            "x        failed  llama.cpp 0.5.0  cpu        -      -       -         3         0\n"
            "  There is no file x.gguf.\n");
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
