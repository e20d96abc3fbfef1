#include "cli/engine_install.h"

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/exit_code.h"

namespace yoke::cli {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class EngineInstall : public testing::Test {
 protected:
  EngineInstall() {
    std::string pattern = (fs::temp_directory_path() / "yoke-cli-XXXXXX").string();
    dir_ = ::mkdtemp(pattern.data());
    ::setenv("YOKE_TOOLS_DIR", dir_.c_str(), 1);
  }
  ~EngineInstall() override {
    ::unsetenv("YOKE_TOOLS_DIR");
    fs::remove_all(dir_);
  }

  // A tool that notes its arguments, and then does what `body` says.
  void tool(const std::string& name, const std::string& body = "") const {
    std::ofstream(dir_ / name) << "import os, signal, sys, time\n"
                               << "open(r'" << (dir_ / "called").string()
                               << "', 'w').write('|'.join(sys.argv[1:]))\n"
                               << body << "\n";
  }
  std::string called() const {
    std::ifstream in(dir_ / "called");
    return {std::istreambuf_iterator<char>(in), {}};
  }

  fs::path dir_;
};

TEST_F(EngineInstall, RunsTheToolWithTheOptions) {
  tool("get_vllm.py");
  tool("get_llama_cpp.py", "sys.exit('the wrong one')");
  const auto done = engine_install(
      {.name = "vllm", .backend = "rocm", .from = "/some wheels", .dest = "/engines"});
  ASSERT_TRUE(done) << done.error().text();
  EXPECT_EQ(called(), "--backend|rocm|--from|/some wheels|--dest|/engines");
  tool("get_llama_cpp.py");
  EXPECT_TRUE(engine_install({.name = "llama.cpp"}));
  EXPECT_EQ(called(), "");
}

TEST_F(EngineInstall, AFailureOfTheToolIsOne) {
  tool("get_vllm.py", "sys.exit(3)");
  const auto failed = engine_install({.name = "vllm"});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, kEngineInstallFailed);
  EXPECT_THAT(failed.error().message, HasSubstr("exit code 3"));
  EXPECT_EQ(exit_code(failed.error()), kExitFailure);
  tool("get_vllm.py", "os.kill(os.getpid(), signal.SIGKILL)");
  EXPECT_THAT(engine_install({.name = "vllm"}).error().message, HasSubstr("signal 9"));
}

TEST_F(EngineInstall, AnInterruptedToolIsNoFailure) {
  tool("get_vllm.py", "sys.exit(130)");
  const auto interrupted = engine_install({.name = "vllm"});
  ASSERT_FALSE(interrupted);
  EXPECT_EQ(interrupted.error().code, kCancelled);
  EXPECT_EQ(exit_code(interrupted.error()), kExitInterrupted);
}

TEST_F(EngineInstall, SignalsReachTheTool) {
  // It tells that it is there, and goes when it is told to; the alarm is for a test that fails.
  tool("get_vllm.py",
       "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\nsignal.alarm(30)\n"
       "os.kill(os.getppid(), signal.SIGTERM)\ntime.sleep(30)");
  const pid_t child = ::fork();
  if (child == 0) {
    const auto done = engine_install({.name = "vllm"});
    const bool passed = !done && done.error().message.find("exit code 7") != std::string::npos;
    ::_exit(passed ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "the signal ended the program, or did not reach the tool";
}

TEST_F(EngineInstall, WhatItCanNotGetIsRefused) {
  for (const EngineInstallOptions& wrong :
       {EngineInstallOptions{.name = "ollama"}, EngineInstallOptions{.name = ""},
        EngineInstallOptions{.name = "vllm", .backend = "vulkan"},
        EngineInstallOptions{.name = "llama.cpp", .backend = "--help"}}) {
    const auto refused = engine_install(wrong);
    ASSERT_FALSE(refused) << wrong.name;
    EXPECT_EQ(refused.error().code, kInvalidArgument);
    EXPECT_FALSE(refused.error().hint.empty());
  }
}

TEST_F(EngineInstall, MissingToolsAndPythonAreNamed) {
  const auto no_tool = engine_install({.name = "vllm"});
  ASSERT_FALSE(no_tool);
  EXPECT_EQ(no_tool.error().code, kEngineToolsMissing);
  EXPECT_THAT(no_tool.error().message, HasSubstr(dir_.string()));

  tool("get_vllm.py");
  const std::string path = std::getenv("PATH");
  ::setenv("PATH", dir_.c_str(), 1);
  const auto no_python = engine_install({.name = "vllm"});
  ::setenv("PATH", path.c_str(), 1);
  ASSERT_FALSE(no_python);
  EXPECT_EQ(no_python.error().code, kEngineToolsMissing);
  EXPECT_THAT(no_python.error().message, HasSubstr("python3"));
}

}  // namespace
}  // namespace yoke::cli
