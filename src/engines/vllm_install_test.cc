#include "engines/vllm_install.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engines/test_support.h"

namespace yoke::engines {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;

class VllmInstall : public testing::Test {
 protected:
  // As tools/get_vllm.py leaves it.
  fs::path install(const std::string& version, const std::string& backend) const {
    const std::string home = "engines/vllm-" + version + "/" + backend;
    dir_.write(home + "/bin/vllm", "#!/bin/sh\n", 0755);
    dir_.write(home + "/engine.json", R"({"name": "vllm", "version": ")" + version +
                                          R"(", "backend": ")" + backend + R"("})");
    return dir_.path() / home;
  }

  ScratchDir dir_;
  // Nothing that is installed on this machine is to be found.
  EnvironmentGuard data_{"XDG_DATA_HOME", (dir_.path() / "data").string()};
  EnvironmentGuard engine_dir_{"YOKE_ENGINE_DIR", (dir_.path() / "engines").string()};
  EnvironmentGuard path_{"PATH", (dir_.path() / "path").string()};
};

TEST_F(VllmInstall, TheNewestIsFoundAndThatForAGpuFirst) {
  install("0.9.1", "rocm");
  install("0.32.0", "cpu");
  const fs::path cuda = install("0.32.0", "cuda");
  dir_.write("engines/llama.cpp-9.0/cpu/engine.json", "{}");
  const auto found = find_vllm({});
  ASSERT_TRUE(found) << found.error().text();
  EXPECT_EQ(found->kind, EngineKind::kVllm);
  EXPECT_EQ(found->version, "0.32.0");
  EXPECT_EQ(found->backend, "cuda");
  EXPECT_EQ(found->dir, cuda);
  EXPECT_EQ(found->server, cuda / "bin/vllm");
  std::vector<std::string> problems;
  EXPECT_EQ(find_vllm_installs({}, problems).size(), 3u);
  EXPECT_THAT(problems, IsEmpty());
}

TEST_F(VllmInstall, AnUnfinishedOneIsNotTaken) {
  dir_.write("engines/vllm-0.32.0/cpu/bin/vllm", "#!/bin/sh\n", 0755);
  dir_.write("engines/vllm-0.31.0/cpu/engine.json", "not json");
  dir_.write("engines/vllm-0.30.0/cpu/engine.json",
             R"({"name": "vllm", "version": "0.30.0", "backend": "cpu"})");
  const auto found = find_vllm({});
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, kEngineNotFound);
  EXPECT_THAT(found.error().message, HasSubstr("has no engine.json"));
  EXPECT_THAT(found.error().message, HasSubstr("has no program bin/vllm"));
  EXPECT_THAT(found.error().hint, HasSubstr("yoke engine install vllm"));
}

TEST_F(VllmInstall, TheOneOnPathTellsItsBackendByItsDistribution) {
  const fs::path program = dir_.write("venv/bin/vllm", "#!/bin/sh\n", 0755);
  fs::create_directories(dir_.path() / "path");
  fs::create_symlink(program, dir_.path() / "path/vllm");
  auto found = find_vllm({});
  ASSERT_TRUE(found) << found.error().text();
  EXPECT_EQ(found->version, "");
  EXPECT_EQ(found->backend, "");
  EXPECT_EQ(found->server, dir_.path() / "path/vllm");

  const fs::path packages = dir_.path() / "venv/lib/python3.12/site-packages";
  const std::vector<std::array<std::string, 3>> cases{{"vllm-0.20.1+rocm712", "0.20.1", "rocm"},
                                                      {"vllm-0.32.0+cpu", "0.32.0", "cpu"},
                                                      {"vllm-0.32.0", "0.32.0", "cuda"}};
  for (const auto& [name, version, backend] : cases) {
    fs::create_directories(packages / (name + ".dist-info"));
    found = find_vllm({});
    ASSERT_TRUE(found);
    EXPECT_EQ(found->version, version);
    EXPECT_EQ(found->backend, backend);
    fs::remove(packages / (name + ".dist-info"));
  }
}

TEST_F(VllmInstall, TheConfiguredOneComesFirst) {
  install("0.32.0", "cpu");
  config::EnginesConfig engines;
  engines.vllm = dir_.write("venv/bin/vllm", "#!/bin/sh\n", 0755);
  EXPECT_EQ(find_vllm(engines)->server, *engines.vllm);
  std::vector<std::string> problems;
  EXPECT_EQ(find_vllm_installs(engines, problems).size(), 2u);

  engines.vllm = dir_.path() / "engines/vllm-0.32.0/cpu/bin/vllm";
  EXPECT_EQ(find_vllm(engines)->version, "0.32.0") << "it is one of Yoke's own";
  EXPECT_EQ(find_vllm_installs(engines, problems).size(), 1u);

  for (const char* wrong : {"missing", "venv", "file"}) {
    dir_.write("file", "no program");
    engines.vllm = dir_.path() / wrong;
    const auto found = find_vllm(engines);
    ASSERT_FALSE(found) << wrong;
    EXPECT_EQ(found.error().code, kEngineNotFound);
    EXPECT_THAT(found.error().message, HasSubstr("vllm in [engines]"));
    problems.clear();
    EXPECT_EQ(find_vllm_installs(engines, problems).size(), 1u);
    EXPECT_EQ(problems.size(), 1u);
  }
}

TEST_F(VllmInstall, CapabilitiesAreAsTheInstallerNotedThem) {
  const fs::path home = install("0.32.0", "cpu");
  const auto nothing = stored_capabilities(*find_vllm({}));
  ASSERT_FALSE(nothing);
  EXPECT_EQ(nothing.error().code, kEngineNotFound);
  dir_.write("engines/vllm-0.32.0/cpu/vllm_help.txt",
             "  --served-model-name NAME [NAME ...]\n  --headless   x\n");
  const auto stored = stored_capabilities(*find_vllm({}));
  ASSERT_TRUE(stored) << stored.error().text();
  EXPECT_EQ(stored->version, "0.32.0");
  EXPECT_TRUE(stored->takes_value("--served-model-name"));
  EXPECT_FALSE(stored->takes_value("--headless"));
}

}  // namespace
}  // namespace yoke::engines
