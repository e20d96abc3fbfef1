#include "cli/app.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yoke::cli {
namespace {

using testing::HasSubstr;
using testing::internal::CaptureStderr;
using testing::internal::CaptureStdout;
using testing::internal::GetCapturedStderr;
using testing::internal::GetCapturedStdout;

struct Outcome {
  int code;
  std::string out;
  std::string err;
};

Outcome run_with(std::vector<std::string> words) {
  words.insert(words.begin(), "yoke");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  CaptureStdout();
  CaptureStderr();
  const int code = run(static_cast<int>(words.size()), argv.data());
  std::string out = GetCapturedStdout();
  return {code, std::move(out), GetCapturedStderr()};
}

TEST(App, ShowsItsVersionAndHelp) {
  const Outcome version = run_with({"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_TRUE(version.out.starts_with("yoke ")) << version.out;
  const Outcome help = run_with({"--help"});
  EXPECT_EQ(help.code, 0);
  for (const char* command : {"serve", "run", "ps", "logs"})
    EXPECT_THAT(help.out, HasSubstr(command));
  EXPECT_THAT(run_with({"run", "--help"}).out, HasSubstr("MODEL [PROMPT...]"));
}

TEST(App, NamesWhatWasMeant) {
  const Outcome command = run_with({"lgos"});
  EXPECT_EQ(command.code, 2);
  EXPECT_EQ(command.err, "yoke: There is no command 'lgos'.\nDid you mean `yoke logs`?\n");
  const Outcome option = run_with({"run", "m", "--temprature=3", "hi"});
  EXPECT_EQ(option.code, 2);
  EXPECT_THAT(option.err, HasSubstr("Did you mean --temperature?"));
}

TEST(App, WrongUsageIsExitCodeTwo) {
  const std::vector<std::vector<std::string>> wrong{{},
                                                    {"--foo"},
                                                    {"run"},
                                                    {"run", "m", "-x", "hi"},
                                                    {"run", "m", "hi", "--seed", "x"},
                                                    {"run", "m", "hi", "--url", "https://box"},
                                                    {"ps", "x"},
                                                    {"ps", "--", "x"},
                                                    {"ps", "--url"},
                                                    {"logs", "-n", "-1"}};
  for (const auto& words : wrong) {
    const Outcome outcome = run_with(words);
    EXPECT_EQ(outcome.code, 2) << testing::PrintToString(words);
    EXPECT_TRUE(outcome.err.starts_with("yoke: ")) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
}

TEST(App, AnyWordCanBeInAPrompt) {
  // Names of commands, lists and dashes are taken; what fails is the connection.
  const std::vector<std::vector<std::string>> fine{
      {"ps"}, {"[a, b]"}, {"{}"}, {"--", "-5", "--foo"}};
  for (const auto& prompt : fine) {
    std::vector<std::string> words{"run", "m", "--url", "http://127.0.0.1:1"};
    words.insert(words.end(), prompt.begin(), prompt.end());
    const Outcome outcome = run_with(words);
    EXPECT_EQ(outcome.code, 1) << testing::PrintToString(prompt);
    EXPECT_THAT(outcome.err, HasSubstr("No Yoke server answers"));
  }
}

}  // namespace
}  // namespace yoke::cli
