#include "cli/engine.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <boost/json/parse.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/exit_code.h"
#include "config/config.h"
#include "engines/capabilities.h"

namespace yoke::cli {
namespace {

namespace fs = std::filesystem;
using engines::EngineInstall;
using testing::HasSubstr;
using testing::Not;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

// Sets an environment variable for the length of a test.
class EnvironmentGuard {
 public:
  EnvironmentGuard(const char* name, const fs::path& value) : name_(name) {
    if (const char* const old = std::getenv(name)) old_ = old;
    ::setenv(name, value.c_str(), 1);
  }
  EnvironmentGuard(const EnvironmentGuard&) = delete;
  EnvironmentGuard& operator=(const EnvironmentGuard&) = delete;
  ~EnvironmentGuard() {
    if (old_) {
      ::setenv(name_, old_->c_str(), 1);
    } else {
      ::unsetenv(name_);
    }
  }

 private:
  const char* name_;
  std::optional<std::string> old_;
};

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (fs::temp_directory_path() / "yoke-engine-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    path_ = fs::canonical(name);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

constexpr std::string_view kWorkingServer =
    "case $1 in\n"
    "  --version) echo 'version: 0.5.0 (build 1, commit de3ff81)' ;;\n"
    "  --help) echo '-m,    --model FNAME    model path to load' ;;\n"
    "  --list-devices) echo 'Available devices:'; echo \"$DEVICES\" ;;\n"
    "esac\n";

class EngineCommand : public testing::Test {
 protected:
  // An installed engine whose program is a shell script.
  fs::path install(const std::string& backend, std::string_view script = kWorkingServer) const {
    const fs::path dir = home_.path() / "engines/llama.cpp-0.5.0" / backend;
    fs::create_directories(dir);
    std::ofstream(dir / "engine.json")
        << R"({"name": "llama.cpp", "version": "0.5.0", "backend": ")" << backend << "\"}";
    write_program(dir / "llama-server", script);
    return dir;
  }

  void install_vllm(std::string_view script) const {
    const fs::path dir = home_.path() / "engines/vllm-0.32.0/cuda";
    fs::create_directories(dir / "bin");
    std::ofstream(dir / "engine.json")
        << R"({"name": "vllm", "version": "0.32.0", "backend": "cuda"})";
    write_program(dir / "bin/vllm", script);
  }

  fs::path system_program(const std::string& name) const {
    fs::create_directories(home_.path() / "bin");
    write_program(home_.path() / "bin" / name, kWorkingServer);
    return home_.path() / "bin" / name;
  }

  static void write_program(const fs::path& path, std::string_view script) {
    std::ofstream(path) << "#!/bin/sh\n" << script;
    fs::permissions(path, fs::perms::owner_all);
  }

  // What the command prints; what it returns goes into result_.
  std::string output_of(Result<void> (*command)(const EngineCommandOptions&),
                        const EngineCommandOptions& options = {}) {
    testing::internal::CaptureStdout();
    result_ = command(options);
    return testing::internal::GetCapturedStdout();
  }

  TemporaryDirectory home_;
  Result<void> result_;
  // Nothing that is installed on this machine is to be found.
  EnvironmentGuard home_variable_{"HOME", home_.path()};
  EnvironmentGuard data_{"XDG_DATA_HOME", home_.path() / "data"};
  EnvironmentGuard config_{"XDG_CONFIG_HOME", home_.path() / "config"};
  EnvironmentGuard engine_dir_{"YOKE_ENGINE_DIR", home_.path() / "engines"};
  EnvironmentGuard path_{"PATH", "/nowhere"};
  EnvironmentGuard devices_{"DEVICES", "  Vulkan0: A GPU (2048 MiB, 1024 MiB free)"};
};

TEST_F(EngineCommand, ListShowsEachWithItsPlace) {
  install("vulkan");
  install("cpu");
  EXPECT_EQ(output_of(engine_list),
            "ENGINE     VERSION  BACKEND  WHERE\n"
            "llama.cpp  0.5.0    cpu      ~/engines/llama.cpp-0.5.0/cpu\n"
            "llama.cpp  0.5.0    vulkan   ~/engines/llama.cpp-0.5.0/vulkan\n");
  EXPECT_TRUE(result_);
}

TEST_F(EngineCommand, ListSaysWhatIsIncomplete) {
  install("cpu");
  fs::remove(install("vulkan") / "llama-server");
  const std::string text = output_of(engine_list);
  EXPECT_THAT(text, HasSubstr("llama.cpp-0.5.0/cpu\n"));
  EXPECT_THAT(text, HasSubstr("llama.cpp-0.5.0/vulkan is incomplete: It has no program"));
}

TEST_F(EngineCommand, ListWithoutAnySaysWhatToDo) {
  EXPECT_THAT(output_of(engine_list), HasSubstr("make engine"));
  EXPECT_TRUE(result_);
}

TEST_F(EngineCommand, ListAsJson) {
  const fs::path dir = install("vulkan");
  const auto json = boost::json::parse(output_of(engine_list, {.json = true}));
  const auto& engines = json.at("engines").as_array();
  ASSERT_EQ(engines.size(), 1u);
  EXPECT_EQ(engines[0].at("name"), "llama.cpp");
  EXPECT_EQ(engines[0].at("version"), "0.5.0");
  EXPECT_EQ(engines[0].at("backend"), "vulkan");
  EXPECT_EQ(engines[0].at("dir").as_string(), dir.string());
  EXPECT_EQ(engines[0].at("server").as_string(), (dir / "llama-server").string());
  EXPECT_TRUE(json.at("problems").as_array().empty());
}

TEST_F(EngineCommand, TheConfiguredProgramIsListedFirst) {
  install("cpu");
  std::ofstream(home_.path() / "own-server") << "#!/bin/sh\n";
  fs::permissions(home_.path() / "own-server", fs::perms::owner_all);
  fs::create_directories(home_.path() / "config/yoke");
  const fs::path file = home_.path() / "config/yoke/yoke.toml";
  std::ofstream(file) << "[engines]\nllama_server = \"" << (home_.path() / "own-server").string()
                      << "\"\n[models.x]\nmodel_path = \"x.gguf\"\n";
  for (const std::string& named : {std::string(), file.string()}) {
    EXPECT_THAT(output_of(engine_list, {.config_file = named}),
                HasSubstr("llama.cpp  -        -        ~/own-server\n"
                          "llama.cpp  0.5.0    cpu"));
  }
}

TEST_F(EngineCommand, AConfigurationThatIsNamedMustBeThere) {
  install("cpu");
  for (const auto command : {engine_list, engine_check}) {
    EXPECT_EQ(output_of(command, {.config_file = (home_.path() / "none.toml").string()}), "");
    ASSERT_FALSE(result_);
    EXPECT_EQ(result_.error().code, config::kConfigNotFound);
  }
}

TEST_F(EngineCommand, CheckShowsWhatEachSays) {
  install("vulkan");
  EXPECT_EQ(output_of(engine_check),
            "llama.cpp 0.5.0 for vulkan: ok\n"
            "  where    ~/engines/llama.cpp-0.5.0/vulkan\n"
            "  version  0.5.0 (build 1, commit de3ff81)\n"
            "  device   Vulkan0: A GPU, 1 GiB of 2 GiB free\n");
  EXPECT_TRUE(result_);
}

TEST_F(EngineCommand, CheckSaysWhatIsWrongAndGoesOn) {
  install("cpu");
  install("vulkan", "echo 'driver missing' >&2; exit 3\n");
  const std::string text = output_of(engine_check);
  EXPECT_THAT(text, HasSubstr("llama.cpp 0.5.0 for cpu: ok\n"));
  EXPECT_THAT(text, HasSubstr("\nllama.cpp 0.5.0 for vulkan: failed\n"));
  EXPECT_THAT(text, HasSubstr("exit code 3: driver missing"));
  EXPECT_THAT(text, HasSubstr("  do       "));
  EXPECT_TRUE(result_) << "one works";
}

TEST_F(EngineCommand, CheckFailsIfNoneWorks) {
  install("cpu", "kill -SEGV $$\n");
  EXPECT_THAT(output_of(engine_check), HasSubstr("signal 11"));
  ASSERT_FALSE(result_);
  EXPECT_EQ(result_.error().code, kNoEngineWorks);
  EXPECT_EQ(exit_code(result_.error()), kExitFailure);
}

TEST_F(EngineCommand, CheckKeepsWhatWasSaidBeforeADriverCrashed) {
  std::string script(kWorkingServer);
  script.insert(script.find("echo 'Available"), "kill -ABRT $$; ");
  install("vulkan", script);
  const std::string text = output_of(engine_check);
  EXPECT_THAT(text, HasSubstr("  version  0.5.0 (build 1, commit de3ff81)\n"));
  EXPECT_THAT(text, HasSubstr("signal 6"));
  EXPECT_FALSE(result_);
}

TEST_F(EngineCommand, AnEngineForGpusNeedsOne) {
  const EnvironmentGuard none("DEVICES", "  (none)");
  install("vulkan");
  EXPECT_THAT(output_of(engine_check), HasSubstr("llama.cpp 0.5.0 for vulkan: no device\n"));
  ASSERT_FALSE(result_);
  EXPECT_EQ(result_.error().code, kNoEngineWorks);
  install("cpu");
  EXPECT_THAT(output_of(engine_check), HasSubstr("llama.cpp 0.5.0 for cpu: ok\n"));
  EXPECT_TRUE(result_);
}

TEST_F(EngineCommand, CheckAsJson) {
  install("cpu", "exit 3\n");
  install("vulkan");
  const auto json = boost::json::parse(output_of(engine_check, {.json = true}));
  EXPECT_TRUE(result_);
  const auto& engines = json.at("engines").as_array();
  ASSERT_EQ(engines.size(), 2u);
  EXPECT_EQ(engines[0].at("state"), "failed");
  EXPECT_EQ(engines[0].at("error").at("code").as_string(), engines::kEngineUnusable.name());
  EXPECT_EQ(engines[1].at("state"), "ok");
  EXPECT_EQ(engines[1].at("says"), "0.5.0 (build 1, commit de3ff81)");
  EXPECT_TRUE(engines[1].at("error").is_null());
  const auto& device = engines[1].at("devices").at(0);
  EXPECT_EQ(device.at("id"), "Vulkan0");
  EXPECT_EQ(device.at("name"), "A GPU");
  EXPECT_EQ(device.at("total_bytes").to_number<std::uint64_t>(), 2048 * kMiB);
  EXPECT_EQ(device.at("free_bytes").to_number<std::uint64_t>(), 1024 * kMiB);
}

// A vLLM as `yoke engine install vllm` leaves it, with a script in its place.
constexpr std::string_view kWorkingVllm =
    "test \"$*\" = --version || exit 2\n"
    "echo 'INFO 11-22 importing' >&2\n"
    "echo 0.32.0+cpu\n";

TEST_F(EngineCommand, VllmIsListedAndCheckedByItsVersion) {
  install("cpu");
  install_vllm(kWorkingVllm);
  EXPECT_EQ(output_of(engine_list),
            "ENGINE     VERSION  BACKEND  WHERE\n"
            "llama.cpp  0.5.0    cpu      ~/engines/llama.cpp-0.5.0/cpu\n"
            "vllm       0.32.0   cuda     ~/engines/vllm-0.32.0/cuda\n");
  // Its devices are not asked for, so it needs none to be in order.
  EXPECT_THAT(output_of(engine_check), HasSubstr("vllm 0.32.0 for cuda: ok\n"
                                                 "  where    ~/engines/vllm-0.32.0/cuda\n"
                                                 "  version  0.32.0+cpu\n"));
  const auto json = boost::json::parse(output_of(engine_check, {.json = true}));
  EXPECT_EQ(json.at("engines").at(1).at("name"), "vllm");
  EXPECT_EQ(json.at("engines").at(1).at("says"), "0.32.0+cpu");
}

TEST_F(EngineCommand, AVllmThatDoesNotStartHasFailed) {
  install_vllm("echo 'No module named torch'; exit 1\n");
  const std::string text = output_of(engine_check);
  EXPECT_THAT(text, HasSubstr("vllm 0.32.0 for cuda: failed\n"));
  EXPECT_THAT(text, HasSubstr("No module named torch"));
  EXPECT_THAT(text, HasSubstr("yoke engine install vllm"));
  EXPECT_FALSE(result_);
  install_vllm("echo 'INFO nothing more'\n");
  EXPECT_THAT(output_of(engine_check), HasSubstr("printed no version"));
}

TEST_F(EngineCommand, ProgramsOfTheSystemAreShownWithTheirBackends) {
  install("cpu");
  const EnvironmentGuard path("PATH", home_.path() / "bin");
  const fs::path rocm = system_program("llama-server-rocm");
  system_program("llama-server");
  EXPECT_EQ(output_of(engine_list),
            "ENGINE     VERSION  BACKEND  WHERE\n"
            "llama.cpp  0.5.0    cpu      ~/engines/llama.cpp-0.5.0/cpu\n"
            "llama.cpp  -        rocm     ~/bin/llama-server-rocm\n"
            "llama.cpp  -        -        ~/bin/llama-server\n");
  // What the plain one computes on only it can say.
  EXPECT_THAT(output_of(engine_check), HasSubstr("\nllama.cpp for vulkan: ok\n"
                                                 "  where    ~/bin/llama-server\n"));
  const auto json = boost::json::parse(output_of(engine_list, {.json = true}));
  EXPECT_EQ(json.at("engines").at(1).at("backend"), "rocm");
  EXPECT_EQ(json.at("engines").at(1).at("server").as_string(), rocm.string());
}

TEST_F(EngineCommand, CheckWithoutAnyEngineFails) {
  EXPECT_EQ(output_of(engine_check), "");
  ASSERT_FALSE(result_);
  EXPECT_EQ(result_.error().code, engines::kEngineNotFound);
  const auto json = boost::json::parse(output_of(engine_check, {.json = true}));
  EXPECT_TRUE(json.at("engines").as_array().empty());
  EXPECT_FALSE(result_);
}

TEST(FormatCheck, ShowsNothingThatDrivesTheTerminal) {
  EngineCheck check{.install = {.version = "1\033[31m", .backend = "cpu", .dir = "/x"}};
  check.version = "v\033[2J";
  check.error = Error{engines::kEngineUnusable, "It said \033]0;title\a."};
  EXPECT_THAT(format_check(check, {}), Not(HasSubstr("\033")));
  EXPECT_THAT(format_check(check, {}), Not(HasSubstr("\a")));
}

}  // namespace
}  // namespace yoke::cli
