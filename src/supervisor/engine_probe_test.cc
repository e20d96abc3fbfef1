#include "supervisor/engine_probe.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yoke::supervisor {
namespace {

namespace fs = std::filesystem;
using engines::EngineInstall;
using engines::EngineKind;
using testing::HasSubstr;

// Runs a task to its end on a thread of its own, this one.
template <class T>
T result_of(io::Task<T> task) {
  boost::asio::io_context context{1};
  std::optional<T> result;
  boost::asio::co_spawn(context, std::move(task), [&](std::exception_ptr thrown, T value) {
    if (thrown) std::rethrow_exception(thrown);
    result = std::move(value);
  });
  context.run();
  return std::move(*result);
}

class EngineProbe : public testing::Test {
 protected:
  EngineProbe() {
    std::string name = (fs::temp_directory_path() / "yoke-probe-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    dir_ = name;
  }
  ~EngineProbe() override { fs::remove_all(dir_); }

  EngineInstall engine(const std::string& script, EngineKind kind = EngineKind::kLlamaCpp) const {
    const fs::path program = dir_ / "program";
    std::ofstream(program) << "#!/bin/sh\n" << script;
    fs::permissions(program, fs::perms::owner_all);
    return {.kind = kind, .dir = dir_, .server = program};
  }

  fs::path dir_;
};

TEST_F(EngineProbe, AsksAnUnknownEngineForItsBackend) {
  const auto backend = [&](const std::string& script) {
    return result_of(with_backend(engine(script))).backend;
  };
  EXPECT_EQ(backend("echo 'Available devices:'; echo '  (none)'"), "cpu");
  EXPECT_EQ(backend("echo 'Available devices:'; echo '  ROCm0: A GPU (2 MiB, 1 MiB free)'"),
            "rocm");
  EXPECT_EQ(backend("echo 'Available devices:'; echo '  SYCL0: A GPU (2 MiB, 1 MiB free)'"), "");
  EXPECT_EQ(backend("kill -SEGV $$"), "");
}

TEST_F(EngineProbe, DoesNotAskOneWhoseBackendIsKnown) {
  EngineInstall install = engine("touch asked");
  install.backend = "vulkan";
  EXPECT_EQ(result_of(with_backend(install)).backend, "vulkan");
  EXPECT_FALSE(fs::exists(dir_ / "asked"));
}

// Values of LLAMA_ARG_... act like arguments, and a key is nobody's business.
TEST_F(EngineProbe, HidesWhatActsOnTheEngine) {
  ::setenv("LLAMA_ARG_PORT", "none", 1);
  ::setenv("YOKE_API_KEY", "secret", 1);
  const auto capabilities = result_of(probe_llama_cpp(
      engine("echo \"version: 1 ($LLAMA_ARG_PORT$YOKE_API_KEY)\"; echo '-m, --model FNAME'")));
  ::unsetenv("LLAMA_ARG_PORT");
  ::unsetenv("YOKE_API_KEY");
  ASSERT_TRUE(capabilities) << capabilities.error().text();
  EXPECT_EQ(capabilities->version, "1 ()");
}

TEST_F(EngineProbe, TakesVllmsVersionFromTheLineItStandsIn) {
  const auto version = result_of(probe_vllm_version(
      engine("echo 'INFO 11-22 12:00:00 loading'; echo 0.32.0+cpu; echo '2 warnings' >&2",
             EngineKind::kVllm)));
  ASSERT_TRUE(version) << version.error().text();
  EXPECT_EQ(*version, "0.32.0+cpu");
}

TEST_F(EngineProbe, SaysWhatToDoAboutAVllmThatFails) {
  const auto failed =
      result_of(probe_vllm_version(engine("echo no torch; exit 1", EngineKind::kVllm)));
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, engines::kEngineUnusable);
  EXPECT_THAT(failed.error().message, HasSubstr("no torch"));
  EXPECT_THAT(failed.error().hint, HasSubstr("yoke engine install vllm"));
  EXPECT_FALSE(result_of(probe_vllm_version(engine("exit 0", EngineKind::kVllm))));
}

TEST_F(EngineProbe, DoesNotAskAVllmThatWasNoted) {
  EngineInstall install = engine("touch asked", EngineKind::kVllm);
  std::ofstream(dir_ / "vllm_help.txt") << "  --served-model-name NAME\n  --max-model-len N\n";
  install.version = "0.32.0";
  const auto capabilities = result_of(probe_vllm(install));
  ASSERT_TRUE(capabilities) << capabilities.error().text();
  EXPECT_TRUE(capabilities->has("--max-model-len"));
  EXPECT_FALSE(fs::exists(dir_ / "asked"));
}

TEST_F(EngineProbe, AsksOtherVllmsForTheirHelp) {
  const auto capabilities = result_of(probe_vllm(engine(
      "test \"$*\" = 'serve --help=all' && echo '  --served-model-name NAME'", EngineKind::kVllm)));
  ASSERT_TRUE(capabilities) << capabilities.error().text();
  EXPECT_TRUE(capabilities->has("--served-model-name"));
}

}  // namespace
}  // namespace yoke::supervisor
