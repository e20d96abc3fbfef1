#include "models/removal.h"

#include <csignal>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gguf/test_support.h"
#include "models/cut_pull.h"

namespace yoke::models {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::IsEmpty;

class RemovalTest : public testing::Test {
 protected:
  fs::path dir() const { return scratch_.path() / "models"; }
  std::unique_ptr<Catalogue> open() const {
    return std::move(*Catalogue::open(dir(), Catalogue::Use::kChange));
  }
  static fs::path write(const fs::path& path, std::size_t bytes = 1000) {
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << std::string(bytes, 'x');
    return path;
  }
  static CatalogueEntry entry(const std::string& name, const std::vector<fs::path>& files,
                              bool linked = false) {
    CatalogueEntry result;
    result.name = name;
    result.path = files.front();
    for (const fs::path& file : files) {
      ModelFile& added = result.files.emplace_back();
      added.path = file;
      added.linked = linked;
    }
    return result;
  }

  gguf::ScratchDir scratch_;
};

TEST_F(RemovalTest, TakesWhatYokeDownloadedAndNothingElse) {
  const auto catalogue = open();
  const fs::path own = write(dir() / "hf/org/repo/a.gguf");
  const fs::path shared = write(dir() / "hf/org/mmproj.gguf");
  const fs::path part = write(own.string() + ".part", 10);
  const fs::path state = write(own.string() + ".part.json", 10);
  const fs::path neighbour = write(own.string() + ".partner");
  const fs::path outside = write(scratch_.path() / "outside.gguf");
  const CatalogueEntry a = entry("a", {own, shared, outside});
  ASSERT_TRUE(catalogue->put(a));
  ASSERT_TRUE(catalogue->put(entry("b", {shared})));
  const auto removal = remove_model(*catalogue, a, dir());
  ASSERT_TRUE(removal) << removal.error().text();
  EXPECT_THAT(removal->files, ElementsAre(own, part, state));
  EXPECT_EQ(removal->bytes, 1020u);
  EXPECT_THAT(removal->shared, ElementsAre(shared));
  EXPECT_THAT(removal->outside, ElementsAre(outside));
  for (const fs::path& gone : {own, part, state}) EXPECT_FALSE(fs::exists(gone)) << gone;
  for (const fs::path& kept : {shared, neighbour, outside}) EXPECT_TRUE(fs::exists(kept)) << kept;
  EXPECT_EQ(catalogue->entries()->size(), 1u);

  fs::remove(neighbour);
  ASSERT_TRUE(remove_model(*catalogue, entry("b", {shared}), dir()));
  EXPECT_FALSE(fs::exists(dir() / "hf/org/mmproj.gguf"));
  EXPECT_TRUE(fs::exists(dir()));
}

TEST_F(RemovalTest, EmptyDirectoriesGoUpToTheModels) {
  const auto catalogue = open();
  const fs::path file = write(dir() / "hf/org/repo/a.gguf");
  ASSERT_TRUE(catalogue->put(entry("a", {file})));
  ASSERT_TRUE(remove_model(*catalogue, entry("a", {file}), dir()));
  EXPECT_FALSE(fs::exists(dir() / "hf"));
  EXPECT_TRUE(fs::exists(dir() / "catalogue.db"));
}

TEST_F(RemovalTest, LinkedFilesStay) {
  const auto catalogue = open();
  const fs::path file = write(dir() / "theirs.gguf");
  const CatalogueEntry linked = entry("a", {file}, true);
  ASSERT_TRUE(catalogue->put(linked));
  EXPECT_THAT(remove_model(*catalogue, linked, dir())->linked, ElementsAre(file));
  EXPECT_TRUE(fs::exists(file));
  EXPECT_THAT(*catalogue->entries(), IsEmpty());
}

TEST_F(RemovalTest, ALinkOutOfTheModelsIsNotFollowed) {
  const auto catalogue = open();
  const fs::path victim = write(scratch_.path() / "private/victim.gguf");
  fs::create_directories(dir());
  fs::create_directory_symlink(scratch_.path() / "private", dir() / "link");
  fs::create_symlink(victim, dir() / "alias.gguf");
  const CatalogueEntry a = entry(
      "a", {dir() / "link/victim.gguf", dir() / "../private/victim.gguf", dir() / "alias.gguf"});
  ASSERT_TRUE(catalogue->put(a));
  const auto removal = remove_model(*catalogue, a, dir());
  EXPECT_THAT(removal->files, ElementsAre(dir() / "alias.gguf"));
  EXPECT_EQ(removal->bytes, 0u);
  EXPECT_TRUE(fs::exists(victim));
  EXPECT_FALSE(fs::is_symlink(fs::symlink_status(dir() / "alias.gguf")));
}

TEST_F(RemovalTest, ACutPullGoesButForFilesOfModels) {
  const auto catalogue = open();
  const fs::path whole = write(dir() / "hf/org/m-00001-of-00002.gguf");
  const fs::path rest = dir() / "hf/org/m-00002-of-00002.gguf";
  const fs::path part = write(rest.string() + ".part", 500);
  const fs::path shared = write(dir() / "hf/org/mmproj.gguf");
  const fs::path update = write(shared.string() + ".part", 10);
  const fs::path outside = write(scratch_.path() / "outside.gguf");
  std::ofstream(rest.string() + ".part.json")
      << R"({"bytes":500,"mark":"etag:x","done":[[0,100],[200,300]]})";
  ASSERT_TRUE(catalogue->put(entry("other", {shared})));
  const BegunPull pull{"hf:org/m", {{whole, 1000}, {rest, 500}, {shared, 1000}, {outside, 1}}};
  ASSERT_TRUE(catalogue->begin_pull(pull));
  ASSERT_TRUE(catalogue->begin_pull({"hf:org/nothing", {{dir() / "none.gguf", 9}}}));

  const auto cut = cut_pulls(*catalogue);
  ASSERT_EQ(cut->size(), 1u);
  EXPECT_EQ(cut->front().pull, pull);
  EXPECT_EQ(cut->front().done, 1000u + 200u + 1000u + 1000u);
  EXPECT_EQ(cut->front().total, 2501u);

  const auto removal = remove_pull(*catalogue, pull, dir());
  ASSERT_TRUE(removal) << removal.error().text();
  EXPECT_THAT(removal->shared, ElementsAre(shared));
  for (const fs::path& gone : {whole, part, update}) EXPECT_FALSE(fs::exists(gone)) << gone;
  for (const fs::path& kept : {shared, outside}) EXPECT_TRUE(fs::exists(kept)) << kept;
  EXPECT_THAT(*cut_pulls(*catalogue), IsEmpty());
}

TEST_F(RemovalTest, WhatAKilledRemovalLeftIsRemovedLater) {
  const auto catalogue = open();
  const fs::path file = write(dir() / "a.gguf");
  ASSERT_TRUE(catalogue->put(entry("a", {file})));
  ASSERT_TRUE(catalogue->remove("a", {file, dir() / "gone.gguf"}));
  EXPECT_TRUE(fs::exists(file));
  EXPECT_TRUE(sweep(*catalogue, dir()));
  EXPECT_FALSE(fs::exists(file));
  EXPECT_THAT(*catalogue->leftovers(), IsEmpty());
}

// Whenever it is killed: an entry has all of its files, and what was begun is finished later.
TEST_F(RemovalTest, AKillLeavesNoEntryWithoutFiles) {
  constexpr int kModels = 12;
  constexpr int kFiles = 5;
  for (int kill = 0; kill < 25; ++kill) {
    std::vector<CatalogueEntry> entries;
    {
      const auto catalogue = open();
      ASSERT_TRUE(sweep(*catalogue, dir()));
      for (int model = 0; model < kModels; ++model) {
        std::vector<fs::path> files;
        for (int i = 0; i < kFiles; ++i) {
          files.push_back(write(dir() / fmt::format("m{}/{}.gguf", model, i), 10));
        }
        entries.push_back(entry(fmt::format("m{}", model), files));
        ASSERT_TRUE(catalogue->put(entries.back()));
      }
    }
    const pid_t pid = ::fork();
    if (pid == 0) {
      auto catalogue = Catalogue::open(dir(), Catalogue::Use::kChange);
      for (const CatalogueEntry& each : entries) {
        if (!catalogue || !remove_model(**catalogue, each, dir())) ::_exit(1);
      }
      ::_exit(0);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(1000 * kill));
    ::kill(pid, SIGKILL);
    int status = 0;
    ::waitpid(pid, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    const auto catalogue = open();
    std::size_t expected = 0;
    const auto left_over = catalogue->entries();
    ASSERT_TRUE(left_over);
    for (const CatalogueEntry& left : *left_over) {
      for (const ModelFile& file : left.files) ASSERT_TRUE(fs::exists(file.path)) << file.path;
      expected += left.files.size();
    }
    ASSERT_TRUE(sweep(*catalogue, dir()));
    std::size_t found = 0;
    for (const auto& each : fs::recursive_directory_iterator(dir())) {
      found += each.path().extension() == ".gguf" ? 1 : 0;
    }
    ASSERT_EQ(found, expected) << "kill " << kill;
  }
}

}  // namespace
}  // namespace yoke::models
