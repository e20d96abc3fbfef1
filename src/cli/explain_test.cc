#include "cli/explain.h"

#include <cstdlib>
#include <ctime>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json_fields.h"
#include "cli/local_time.h"

namespace yoke::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

class FormatExplanation : public testing::Test {
 protected:
  FormatExplanation() {
    ::setenv("TZ", "UTC", 1);
    ::tzset();
  }
  static std::string format(std::string_view reply, const Terminal& terminal = {}) {
    const auto text = format_explanation(*parse_json(reply), terminal);
    return text ? *text : text.error().text();
  }
};

constexpr std::string_view kFallenBack = R"json({
  "model":"chat","file":"/models/chat.gguf","state":"ready",
  "order":"GPUs come before the CPU.",
  "candidates":[
    {"backend":"vulkan","engine":"llama.cpp 0.5.0 (build 1, commit de3ff81)",
     "driver":"RADV Mesa 25.2.1","current":false,"check":null,
     "quarantine":{"model":"chat","backend":"vulkan","failure":"gpu_hang",
       "message":"The GPU made no progress for 2 min 0 s.","since_ms":1795358816000,
       "until_ms":1795359436000,"remaining_s":560.25,"count":2}},
    {"backend":"rocm","engine":"llama.cpp 0.5.0","driver":"Linux 6.18.9","current":false,
     "quarantine":null,"check":{"agreed":false,"distance":0.93125,"time_ms":1795358876000}},
    {"backend":"cpu","engine":"llama.cpp 0.5.0","driver":"","current":true,"quarantine":null,
     "check":{"agreed":true,"distance":0,"time_ms":1795358876000}}],
  "ruled_out":[{"backend":"cuda","why":"There is no NVIDIA GPU."}],
  "decisions":[
    {"setting":"flash_attn","value":"off","by":"known_fact","why":"It gives wrong text there.",
     "source":"llama.cpp #28211"},
    {"setting":"n_ubatch","value":"512","by":"user","why":"","source":""}],
  "notes":["--mlock was left out: the limit is 64 KiB."],
  "command":["/opt/llama-server","--alias","it's","--model","/models/my model.gguf",""],
  "failures":[
    {"model":"chat","backend":"vulkan","engine":"llama.cpp 0.5.0","driver":"RADV Mesa 25.2.1",
     "failure":"gpu_hang","message":"The GPU made no progress.","evidence":"ring gfx timeout",
     "time_ms":1795358816000},
    {"model":"chat","backend":"cpu","engine":"llama.cpp 0.5.0","driver":"",
     "failure":"crash","message":"It crashed.","evidence":"","time_ms":1795272416000}],
  "multi_node":[]})json";

TEST_F(FormatExplanation, TellsTheWholeStory) {
  EXPECT_EQ(format(kFallenBack), R"(chat
  State            ready
  File             /models/chat.gguf

Backends, in the order of trial
  GPUs come before the CPU.
  vulkan           in quarantine until 2026-11-22 14:57:16 (9 min 20 s more)
                   llama.cpp 0.5.0 (build 1, commit de3ff81), RADV Mesa 25.2.1
                   Left out because of gpu_hang (2 times by now): The GPU made no progress for 2 min 0 s.
  rocm             ready to fall back to
                   llama.cpp 0.5.0, Linux 6.18.9
                   Answer check: differs from the CPU's (distance 0.931, 2026-11-22 14:47:56).
  cpu              runs
                   llama.cpp 0.5.0
                   Answer check: agrees with the CPU's (distance 0, 2026-11-22 14:47:56).
  cuda             ruled out: There is no NVIDIA GPU.

Settings
  flash_attn       off (a known fact, llama.cpp #28211)
                   It gives wrong text there.
  n_ubatch         512 (your configuration)

Notes
  --mlock was left out: the limit is 64 KiB.

Failures, the newest first
  2026-11-22 14:46:56: gpu_hang on vulkan
                   The GPU made no progress.
                   Its log: ring gfx timeout
                   llama.cpp 0.5.0, RADV Mesa 25.2.1
  2026-11-21 14:46:56: crash on cpu
                   It crashed.
                   llama.cpp 0.5.0

Command
  /opt/llama-server --alias 'it'\''s' --model '/models/my model.gguf' ''
)");
}

TEST_F(FormatExplanation, OfAModelThatNothingCanRun) {
  EXPECT_EQ(format(R"({"model":"big","file":"/models/big","state":"failed","order":"Whatever.",
      "candidates":[],"ruled_out":[{"backend":"vllm","why":"It is not installed."}],
      "decisions":[],"notes":[],"command":[],"failures":[],"multi_node":[]})"),
            R"(big
  State            failed
  File             /models/big
  Engine           None that is installed can run it here.

Backends, in the order of trial
  vllm             ruled out: It is not installed.
)");
}

TEST_F(FormatExplanation, OfAModelForSeveralMachines) {
  EXPECT_EQ(format(R"({"model":"big","file":"/m","state":"failed","order":"",
      "candidates":[{"backend":"","engine":"vllm 0.11","driver":"","current":true,
        "quarantine":{"until_ms":1795359436000,"remaining_s":1,"count":1,"failure":"crash",
                      "message":"It crashed."},"check":null}],
      "ruled_out":[],"decisions":[],"failures":[],
      "multi_node":["vllm serve /m --node-rank 0","vllm serve /m --node-rank 1"]})"),
            R"(big
  State            failed
  File             /m

Backends, in the order of trial
  -                is the next to be started, though in quarantine until 2026-11-22 14:57:16 (1.0 s more)
                   vllm 0.11
                   Left out because of crash: It crashed.

It is too big for this machine; one command for each of several machines
  vllm serve /m --node-rank 0
  vllm serve /m --node-rank 1
)");
}

TEST_F(FormatExplanation, FitsTheTerminal) {
  Terminal terminal;
  terminal.width = 60;
  const std::string text = format(kFallenBack, terminal);
  EXPECT_THAT(text, HasSubstr("  vulkan           in quarantine until 2026-11-22 14:57:16\n"
                              "                   (9 min 20 s more)\n"));
  // But what is to be copied stays in one piece.
  EXPECT_THAT(text, HasSubstr("  /opt/llama-server --alias 'it'\\''s' --model '/models/my model"));
}

TEST_F(FormatExplanation, EachStateOfTheCurrentBackendHasItsWords) {
  const auto with_state = [](std::string_view state) {
    return format(R"({"model":"m","file":"f","state":")" + std::string(state) +
                  R"(","candidates":[{"backend":"cpu","current":true}],"ruled_out":[],
                     "decisions":[],"failures":[]})");
  };
  EXPECT_THAT(with_state("draining"), HasSubstr("cpu              runs\n"));
  EXPECT_THAT(with_state("starting"), HasSubstr("cpu              is starting\n"));
  EXPECT_THAT(with_state("checking"), HasSubstr("cpu              is starting: its answers are"));
  EXPECT_THAT(with_state("failed"), HasSubstr("cpu              is the next to be started\n"));
}

TEST_F(FormatExplanation, NothingInItDrivesTheTerminal) {
  const std::string text = format(
      R"({"model":"m\u001b[2J","file":"f\nx","state":"ready\u001b[31m","candidates":[],
          "ruled_out":[{"backend":"b\u0007","why":"\u001b]0;title\u0007"}],"decisions":[],
          "notes":["\u001b[1m"],"command":["\u001b[2J"],"failures":[],
          "multi_node":["\u001b[2J"]})");
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(text, Not(HasSubstr("\x07")));
  EXPECT_THAT(text, HasSubstr("File             f x\n"));
}

TEST_F(FormatExplanation, RefusesAnotherForm) {
  for (const char* reply : {"[]", "{}", R"({"state":1})", R"({"state":"ready","candidates":{}})"}) {
    EXPECT_FALSE(format_explanation(*parse_json(reply), {})) << reply;
  }
}

TEST_F(FormatExplanation, TakesTimesThatNoCalendarHas) {
  EXPECT_EQ(local_time(0), "1970-01-01 00:00:00");
  EXPECT_EQ(local_time(std::numeric_limits<std::int64_t>::max()), "?");
}

}  // namespace
}  // namespace yoke::cli
