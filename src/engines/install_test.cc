#include "engines/install.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engines/test_support.h"

namespace yoke::engines {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class Install : public testing::Test {
 protected:
  // An engine as tools/get_llama_cpp.py leaves it.
  fs::path install(const std::string& version, const std::string& backend) const {
    const std::string home = "engines/llama.cpp-" + version + "/" + backend;
    dir_.write(home + "/llama-server", "#!/bin/sh\n", 0755);
    dir_.write(home + "/engine.json", R"({"name": "llama.cpp", "version": ")" + version +
                                          R"(", "release": "v", "commit": "0", "backend": ")" +
                                          backend + R"(", "files": {"llama-server": 10}})");
    return dir_.path() / home;
  }
  // "0.5.0 cpu" of each engine that a server would take.
  static std::vector<std::string> chosen(const config::EnginesConfig& config) {
    std::vector<std::string> names;
    const auto engines = engines_of_each_backend(config);
    for (const EngineInstall& engine : *engines) {
      names.push_back(engine.version + " " + engine.backend);
    }
    return names;
  }
  fs::path engines() const { return dir_.path() / "engines"; }

  ScratchDir dir_;
  // Nothing that is installed on this machine is to be found.
  EnvironmentGuard data_{"XDG_DATA_HOME", (dir_.path() / "data").string()};
  EnvironmentGuard engine_dir_{"YOKE_ENGINE_DIR", engines().string()};
  EnvironmentGuard path_{"PATH", (dir_.path() / "bin").string()};
};

TEST_F(Install, TheNewestVersionIsFound) {
  install("0.5.0", "cpu");
  const fs::path newest = install("0.10.0", "cpu");
  install("0.9.3", "cpu");
  const auto found = find_llama_cpp({});
  ASSERT_TRUE(found) << found.error().text();
  EXPECT_EQ(found->kind, EngineKind::kLlamaCpp);
  EXPECT_EQ(found->version, "0.10.0");
  EXPECT_EQ(found->backend, "cpu");
  EXPECT_EQ(found->dir, newest);
  EXPECT_EQ(found->server, newest / "llama-server");
}

TEST_F(Install, OfOneVersionTheCpuBuildComesFirst) {
  install("0.5.0", "aaa");
  install("0.5.0", "cpu");
  std::vector<std::string> problems;
  const auto found = list_llama_cpp(engines(), problems);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].backend, "cpu");
  EXPECT_THAT(problems, testing::IsEmpty());
}

TEST_F(Install, WhatIsIncompleteIsPassedOver) {
  fs::remove(install("0.7.0", "cpu") / "llama-server");
  dir_.write("engines/llama.cpp-0.8.0/cpu/engine.json", "{");
  dir_.write("engines/llama.cpp-0.9.0/cpu/engine.json", R"({"name": "llama.cpp"})");
  fs::create_directories(engines() / "llama.cpp-0.9.1/cpu");
  fs::create_directories(engines() / ".new-0.9.2/cpu");
  install("0.5.0", "cpu");
  EXPECT_EQ(find_llama_cpp({})->version, "0.5.0");
  std::vector<std::string> problems;
  list_llama_cpp(engines(), problems);
  EXPECT_EQ(problems.size(), 4u);
}

TEST_F(Install, TheConfiguredProgramComesFirst) {
  install("0.5.0", "cpu");
  const fs::path own = dir_.write("own/my-server", "#!/bin/sh\n", 0755);
  const auto found = find_llama_cpp({.llama_server = own});
  ASSERT_TRUE(found) << found.error().text();
  EXPECT_EQ(found->server, own);
  EXPECT_EQ(found->dir, own.parent_path());
  EXPECT_EQ(found->version, "");
  EXPECT_EQ(found->backend, "");
}

TEST_F(Install, AConfiguredEngineOfYokesIsKnown) {
  const fs::path home = install("0.5.0", "cpu");
  EXPECT_EQ(find_llama_cpp({.llama_server = home / "llama-server"})->version, "0.5.0");
}

TEST_F(Install, AConfiguredProgramMustBeOne) {
  install("0.5.0", "cpu");
  const fs::path text = dir_.write("own/notes", "text", 0644);
  for (const auto& [path, said] :
       std::vector<std::pair<fs::path, std::string>>{{dir_.path() / "none", "does not exist"},
                                                     {dir_.path(), "is the directory"},
                                                     {text, "can't be executed"}}) {
    const auto found = find_llama_cpp({.llama_server = path});
    ASSERT_FALSE(found) << path;
    EXPECT_EQ(found.error().code, kEngineNotFound);
    EXPECT_THAT(found.error().message, HasSubstr(said));
    EXPECT_THAT(found.error().message, HasSubstr(path.string()));
    EXPECT_NE(found.error().hint, "");
  }
}

TEST_F(Install, TheOneOnPathComesLast) {
  const fs::path program = dir_.write("bin/llama-server", "#!/bin/sh\n", 0755);
  EXPECT_EQ(find_llama_cpp({})->server, program);
  install("0.5.0", "cpu");
  EXPECT_EQ(find_llama_cpp({})->version, "0.5.0");
}

TEST_F(Install, WithoutAnyItSaysWhatToDo) {
  dir_.write("engines/llama.cpp-0.8.0/cpu/engine.json", "{");
  dir_.write("bin/llama-server", "not executable", 0644);
  const auto found = find_llama_cpp({});
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, kEngineNotFound);
  EXPECT_THAT(found.error().hint, HasSubstr("make engine"));
  EXPECT_THAT(found.error().hint, HasSubstr("llama_server in [engines]"));
  EXPECT_THAT(found.error().message, HasSubstr("llama.cpp-0.8.0"));
}

using FindAll = Install;

TEST_F(FindAll, GivesTheNewestVersionFirstAndOfEachTheCpuBuild) {
  install("0.5.0", "vulkan");
  install("0.5.0", "cpu");
  install("0.10.0", "cpu");
  install("0.10.0", "vulkan");
  std::vector<std::string> problems;
  std::vector<std::string> found;
  for (const EngineInstall& each : find_llama_cpp_installs({}, problems)) {
    found.push_back(each.version + " " + each.backend);
    EXPECT_EQ(each.server, each.dir / "llama-server");
  }
  EXPECT_THAT(found,
              testing::ElementsAre("0.10.0 cpu", "0.10.0 vulkan", "0.5.0 cpu", "0.5.0 vulkan"));
  EXPECT_THAT(problems, testing::IsEmpty());
}

TEST_F(FindAll, BeginsWithWhatFindTakes) {
  std::vector<std::string> problems;
  EXPECT_THAT(find_llama_cpp_installs({}, problems), testing::IsEmpty());
  dir_.write("bin/llama-server", "#!/bin/sh\n", 0755);
  EXPECT_EQ(find_llama_cpp_installs({}, problems).front().server, find_llama_cpp({})->server);
  install("0.5.0", "vulkan");
  install("0.5.0", "cpu");
  EXPECT_EQ(find_llama_cpp_installs({}, problems).front().backend, "cpu");
  EXPECT_EQ(find_llama_cpp({})->backend, "cpu");
  const config::EnginesConfig own{.llama_server = dir_.write("own/my-server", "#!/bin/sh\n", 0755)};
  EXPECT_EQ(find_llama_cpp_installs(own, problems).front().server, find_llama_cpp(own)->server);
  EXPECT_EQ(find_llama_cpp_installs(own, problems).size(), 4u);
}

// $YOKE_ENGINE_DIR counts before the place where `make engine` puts them, whatever the versions.
TEST_F(FindAll, LooksIntoEveryDirectory) {
  install("0.5.0", "cpu");
  fs::create_directories(dir_.path() / "data/yoke/engines");
  fs::rename(engines() / "llama.cpp-0.5.0", dir_.path() / "data/yoke/engines/llama.cpp-0.5.0");
  install("0.4.0", "cpu");
  std::vector<std::string> problems;
  const auto found = find_llama_cpp_installs({}, problems);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].version, "0.4.0");
  EXPECT_EQ(found[1].version, "0.5.0");
}

TEST_F(FindAll, GivesEachProgramOnce) {
  const fs::path cpu = install("0.5.0", "cpu") / "llama-server";
  fs::create_directories(dir_.path() / "bin");
  fs::create_symlink(cpu, dir_.path() / "bin/llama-server");
  std::vector<std::string> problems;
  EXPECT_EQ(find_llama_cpp_installs({.llama_server = cpu}, problems).size(), 1u);
}

// As tools/get_llama_cpp.py makes them.
TEST_F(FindAll, BackendsMayShareOneFile) {
  const fs::path cpu = install("0.5.0", "cpu") / "llama-server";
  const fs::path vulkan = install("0.5.0", "vulkan") / "llama-server";
  fs::remove(vulkan);
  fs::create_hard_link(cpu, vulkan);
  std::vector<std::string> problems;
  EXPECT_EQ(find_llama_cpp_installs({}, problems).size(), 2u);
}

TEST_F(FindAll, SaysWhatCannotBeUsed) {
  install("0.5.0", "cpu");
  fs::remove(install("0.7.0", "cpu") / "llama-server");
  std::vector<std::string> problems;
  const auto found = find_llama_cpp_installs({.llama_server = dir_.path() / "none"}, problems);
  EXPECT_EQ(found.size(), 1u);
  EXPECT_THAT(problems, testing::ElementsAre(HasSubstr("does not exist"), HasSubstr("0.7.0")));
}

TEST_F(FindAll, PassesOverWhatAnInstallationLeftUnfinished) {
  fs::rename(install("0.5.0", "cpu"), engines() / "llama.cpp-0.5.0/.new-abc");
  std::vector<std::string> problems;
  EXPECT_THAT(find_llama_cpp_installs({}, problems), testing::IsEmpty());
  EXPECT_THAT(problems, testing::IsEmpty());
}

TEST_F(FindAll, OfEachBackendTheNewestIsChosen) {
  install("0.5.0", "cpu");
  install("0.5.0", "vulkan");
  install("0.6.0", "cpu");
  EXPECT_THAT(chosen({}), testing::ElementsAre("0.6.0 cpu", "0.5.0 vulkan"));
}

TEST_F(FindAll, AForeignProgramStandsForItself) {
  EXPECT_EQ(engines_of_each_backend({}).error().code, kEngineNotFound);
  const fs::path program = dir_.write("bin/llama-server", "#!/bin/sh\n", 0755);
  EXPECT_EQ(engines_of_each_backend({})->size(), 1u);
  install("0.5.0", "cpu");
  const auto chosen = engines_of_each_backend({.llama_server = program});
  ASSERT_EQ(chosen->size(), 1u);
  EXPECT_EQ(chosen->front().server, program);
}

TEST_F(FindAll, ThePlainProgramOfTheSystemComesLastAndWithoutABackend) {
  const fs::path plain = dir_.write("bin/llama-server", "#!/bin/sh\n", 0755);
  dir_.write("bin/llama-server-rocm", "#!/bin/sh\n", 0755);
  install("0.5.0", "cpu");
  const auto engines = engines_of_each_backend({});
  ASSERT_EQ(engines->size(), 3u);
  EXPECT_EQ(engines->at(0).backend, "cpu");
  EXPECT_EQ(engines->at(1).backend, "rocm");
  EXPECT_EQ(engines->at(1).version, "");
  EXPECT_EQ(engines->at(2).backend, "");
  EXPECT_EQ(engines->at(2).server, plain);
}

// The configuration comes before what is installed, and that before the system's.
TEST_F(FindAll, PrefersWhatTheConfigurationNames) {
  install("0.5.0", "cpu");
  install("0.5.0", "rocm");
  for (const char* name : {"bin/llama-server-rocm", "bin/llama-server-vulkan"}) {
    dir_.write(name, "#!/bin/sh\n", 0755);
  }
  const auto server_of = [](const Result<std::vector<EngineInstall>>& engines,
                            const std::string& backend) {
    for (const EngineInstall& engine : *engines) {
      if (engine.backend == backend) return engine.server;
    }
    return fs::path();
  };
  const auto without = engines_of_each_backend({});
  EXPECT_EQ(server_of(without, "rocm"), engines() / "llama.cpp-0.5.0/rocm/llama-server");
  EXPECT_EQ(server_of(without, "vulkan"), dir_.path() / "bin/llama-server-vulkan");
  const fs::path own = dir_.write("own/hip-server", "#!/bin/sh\n", 0755);
  const auto with = engines_of_each_backend({.llama_servers = {{"rocm", own}}});
  EXPECT_EQ(server_of(with, "rocm"), own);
  EXPECT_EQ(server_of(with, "vulkan"), dir_.path() / "bin/llama-server-vulkan");
  EXPECT_EQ(server_of(with, "cpu"), engines() / "llama.cpp-0.5.0/cpu/llama-server");
}

TEST_F(FindAll, AConfiguredProgramThatIsMissingIsAnError) {
  install("0.5.0", "cpu");
  const auto engines = engines_of_each_backend({.llama_servers = {{"rocm", "/none"}}});
  ASSERT_FALSE(engines);
  EXPECT_EQ(engines.error().code, kEngineNotFound);
  EXPECT_THAT(engines.error().message, HasSubstr("llama_server_rocm in [engines] is /none"));
}

// As a distribution may link them: one program under several names.
TEST_F(FindAll, ANamedProgramIsNotFoundAgainWithoutItsName) {
  const fs::path program = dir_.write("bin/llama-server-vulkan", "#!/bin/sh\n", 0755);
  fs::create_symlink(program, dir_.path() / "bin/llama-server");
  fs::create_symlink(program, dir_.path() / "bin/llama-server-cpu");
  EXPECT_THAT(chosen({}), testing::ElementsAre(" vulkan", " cpu"));
}

// Archives of releases have their programs in a directory of their own.
TEST_F(Install, TheProgramMayLieBelow) {
  const std::string home = "engines/llama.cpp-7.0/rocm";
  dir_.write(home + "/build/bin/llama-server", "#!/bin/sh\n", 0755);
  const auto manifest = [&](const std::string& program) {
    dir_.write(home + "/engine.json",
               R"({"name": "llama.cpp", "version": "7.0", "backend": "rocm", "program": ")" +
                   program + "\"}");
  };
  manifest("build/bin/llama-server");
  EXPECT_EQ(find_llama_cpp({})->server, dir_.path() / home / "build/bin/llama-server");
  EXPECT_EQ(find_llama_cpp({})->dir, dir_.path() / home);
  for (const char* outside : {"/bin/sh", "../rocm/build/bin/llama-server", "build/../../x"}) {
    manifest(outside);
    EXPECT_EQ(find_llama_cpp({}).error().code, kEngineNotFound) << outside;
  }
}

}  // namespace
}  // namespace yoke::engines
