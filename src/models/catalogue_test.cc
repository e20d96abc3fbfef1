#include "models/catalogue.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <functional>
#include <random>
#include <sched.h>
#include <string>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gguf/test_support.h"
#include "store/database.h"
#include "store/schema.h"

namespace yoke::models {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using Use = Catalogue::Use;

constexpr int kFiles = 4;

// Everything in it follows from its name, so that a mixture of two shows.
CatalogueEntry an_entry(const std::string& name, std::uint64_t number = 7) {
  CatalogueEntry entry;
  entry.name = name;
  entry.source = "hf:org/" + name;
  entry.revision = std::string(40, 'a');
  entry.format = "gguf";
  entry.path = "/m/" + name + "-1.gguf";
  entry.architecture = "llama";
  entry.quantization = "Q4_K_M";
  entry.parameters = 134'515'008;
  entry.context_length = 8192;
  entry.added = std::chrono::system_clock::time_point(std::chrono::milliseconds(number));
  for (int i = 1; i <= kFiles; ++i) {
    entry.files.push_back({.path = fmt::format("/m/{}-{}.gguf", name, i),
                           .bytes = number,
                           .sha256 = std::string(64, 'b'),
                           .role = i == kFiles ? FileRole::kProjector : FileRole::kWeights,
                           .linked = i % 2 == 0});
  }
  return entry;
}

int in_child(const std::function<int()>& work) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(work());
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

class CatalogueTest : public testing::Test {
 protected:
  fs::path dir() const { return scratch_.path() / "models"; }
  fs::path file() const { return dir() / "catalogue.db"; }

  std::unique_ptr<Catalogue> open(Use use = Use::kChange) const {
    auto catalogue = Catalogue::open(dir(), use);
    EXPECT_TRUE(catalogue) << catalogue.error().text();
    return std::move(*catalogue);
  }
  Error error_of_open(Use use) const {
    const auto catalogue = Catalogue::open(dir(), use);
    EXPECT_FALSE(catalogue);
    return catalogue ? Error{kInternal, "none"} : catalogue.error();
  }
  std::vector<std::string> names(Use use = Use::kRead) const {
    const auto entries = open(use)->entries();
    EXPECT_TRUE(entries) << entries.error().text();
    std::vector<std::string> found;
    for (const CatalogueEntry& entry : *entries) found.push_back(entry.name);
    return found;
  }
  // "" if the file is whole and every entry is as an_entry makes it.
  std::string defect() const {
    auto catalogue = Catalogue::open(dir(), Use::kRead);
    if (!catalogue) return catalogue.error().text();
    const auto entries = (*catalogue)->entries();
    if (!entries) return entries.error().text();
    for (const CatalogueEntry& entry : *entries) {
      const auto number =
          std::chrono::floor<std::chrono::milliseconds>(entry.added.time_since_epoch());
      if (entry != an_entry(entry.name, static_cast<std::uint64_t>(number.count()))) {
        return entry.name + " is a mixture";
      }
    }
    return {};
  }

  gguf::ScratchDir scratch_;
};

TEST_F(CatalogueTest, KeepsEverything) {
  CatalogueEntry odd = an_entry("odd");
  odd.source = "it's a \"source\"; with \xff";
  odd.path = "/m/\xff\n.gguf";
  odd.parameters = 0;
  {
    const auto catalogue = open();
    EXPECT_TRUE(catalogue->put(an_entry("b")));
    EXPECT_TRUE(catalogue->put(odd));
    EXPECT_TRUE(catalogue->put(an_entry("a", 9)));
  }
  EXPECT_THAT(*open(Use::kRead)->entries(), ElementsAre(an_entry("a", 9), an_entry("b"), odd));
  EXPECT_EQ(an_entry("a").bytes(), 28u);
  EXPECT_EQ(an_entry("a").projector(), "/m/a-4.gguf");
}

TEST_F(CatalogueTest, AnEntryTakesThePlaceOfOneOfItsName) {
  const auto catalogue = open();
  EXPECT_TRUE(catalogue->put(an_entry("a", 1)));
  CatalogueEntry small = an_entry("a", 2);
  small.files.resize(1);
  EXPECT_TRUE(catalogue->put(small));
  EXPECT_THAT(*catalogue->entries(), ElementsAre(small));
}

TEST_F(CatalogueTest, TakesOnlyNamesAndPathsThatCanBe) {
  const auto catalogue = open();
  for (const char* const name : {"", "a b", "/a", "ä", "a\n"}) {
    EXPECT_EQ(catalogue->put(an_entry(name)).error().code, kInvalidArgument) << name;
  }
  CatalogueEntry relative = an_entry("a");
  relative.files.back().path = "a.gguf";
  EXPECT_EQ(catalogue->put(relative).error().code, kInvalidArgument);
  EXPECT_THAT(*catalogue->entries(), IsEmpty());
}

TEST(EntryName, IsMadeOfWhatAModelMayBeCalled) {
  EXPECT_EQ(entry_name("llama3.2:3b"), "llama3.2:3b");
  EXPECT_EQ(entry_name("  my model (v2)"), "my-model--v2-");
  EXPECT_EQ(entry_name("\xff"), "model");
  EXPECT_EQ(entry_name(std::string(200, 'x')), std::string(128, 'x'));
  EXPECT_TRUE(is_entry_name("hf/org:Q4_K_M@x+y"));
  EXPECT_FALSE(is_entry_name(std::string(129, 'x')));
}

TEST_F(CatalogueTest, FindsByWhatIsMeant) {
  const auto catalogue = open();
  for (const char* const name : {"org/Qwen3-8B:Q4_K_M", "org/Qwen3-8B:Q8_0", "llama3.2:3b"}) {
    EXPECT_TRUE(catalogue->put(an_entry(name)));
  }
  EXPECT_EQ(catalogue->find("llama3.2:3b")->name, "llama3.2:3b");
  EXPECT_EQ(catalogue->find("LLAMA3.2:3B")->name, "llama3.2:3b");
  EXPECT_EQ(catalogue->find("q8_0")->name, "org/Qwen3-8B:Q8_0");
  EXPECT_EQ(catalogue->find("ama3")->name, "llama3.2:3b");
  const Error several = catalogue->find("qwen3").error();
  EXPECT_EQ(several.code, kModelUnknown);
  EXPECT_EQ(several.message, "'qwen3' may be any of org/Qwen3-8B:Q4_K_M, org/Qwen3-8B:Q8_0.");
  const Error none = catalogue->find("lama3.2:3x").error();
  EXPECT_EQ(none.code, kModelUnknown);
  EXPECT_EQ(none.text(),
            "There is no model 'lama3.2:3x'. Did you mean llama3.2:3b? `yoke list` shows those "
            "that there are.");
  EXPECT_EQ(catalogue->find("").error().code, kModelUnknown);
}

TEST_F(CatalogueTest, AnExactNameIsBeforeWhatItMayAlsoMean) {
  const auto catalogue = open();
  EXPECT_TRUE(catalogue->put(an_entry("b")));
  EXPECT_TRUE(catalogue->put(an_entry("ab")));
  EXPECT_EQ(catalogue->find("b")->name, "b");
  EXPECT_EQ(catalogue->find("B")->name, "b");
}

TEST_F(CatalogueTest, RemovesAnEntryAndRemembersItsFiles) {
  const auto catalogue = open();
  EXPECT_TRUE(catalogue->put(an_entry("a")));
  EXPECT_TRUE(catalogue->put(an_entry("b")));
  EXPECT_TRUE(catalogue->remove("a", {"/m/a-1.gguf", "/m/a-3.gguf"}));
  EXPECT_THAT(*catalogue->leftovers(), ElementsAre("/m/a-1.gguf", "/m/a-3.gguf"));
  EXPECT_EQ(catalogue->remove("a").error().code, kModelUnknown);
  EXPECT_THAT(names(), ElementsAre("b"));
  // Got again in the meantime.
  CatalogueEntry again = an_entry("a");
  again.files.resize(1);
  EXPECT_TRUE(catalogue->put(again));
  EXPECT_THAT(*catalogue->leftovers(), ElementsAre("/m/a-3.gguf"));
  EXPECT_TRUE(catalogue->settle_leftovers());
  EXPECT_THAT(*catalogue->leftovers(), IsEmpty());
}

TEST_F(CatalogueTest, ADirectoryWithoutOneIsEmptyAndStaysSo) {
  EXPECT_THAT(names(), IsEmpty());
  EXPECT_EQ(open(Use::kRead)->find("a").error().code, kModelUnknown);
  EXPECT_FALSE(fs::exists(dir()));
}

TEST_F(CatalogueTest, OnlyOneChangesIt) {
  const auto first = open();
  EXPECT_TRUE(first->put(an_entry("a")));
  EXPECT_EQ(in_child([this] {
              const Error error = error_of_open(Use::kChange);
              const std::string expected =
                  fmt::format("Another Yoke (process {}) is changing the models in {}.",
                              ::getppid(), dir().string());
              return error.code == kModelsInUse && error.message == expected ? 0 : 1;
            }),
            0);
}

TEST_F(CatalogueTest, IsReadWhileAnotherChangesIt) {
  const auto writer = open();
  EXPECT_TRUE(writer->put(an_entry("m", 1)));
  const int result = in_child([this] {
    std::uint64_t last = 0;
    for (int i = 0; i < 200; ++i) {
      auto reader = Catalogue::open(dir(), Use::kRead);
      if (!reader) return 1;
      const auto entries = (*reader)->entries();
      if (!entries || entries->size() != 1) return 2;
      const std::uint64_t number = entries->front().files.front().bytes;
      if (entries->front() != an_entry("m", number) || number < last) return 3;
      last = number;
    }
    return 0;
  });
  EXPECT_EQ(result, 0);
  std::atomic<bool> done = false;
  std::thread changes([&] {
    for (std::uint64_t i = 2; !done; ++i) EXPECT_TRUE(writer->put(an_entry("m", i)));
  });
  std::uint64_t last = 0;
  for (int i = 0; i < 200; ++i) {
    const auto entries = open(Use::kRead)->entries();
    if (!entries || entries->size() != 1) {
      ADD_FAILURE() << (entries ? "not one entry" : entries.error().text());
      break;
    }
    const std::uint64_t number = entries->front().files.front().bytes;
    EXPECT_EQ(entries->front(), an_entry("m", number));
    EXPECT_GE(number, last);
    last = number;
  }
  done = true;
  changes.join();
  EXPECT_GT(last, 1u);
}

TEST_F(CatalogueTest, IsWholeAfterAKillAtAnyMoment) {
  constexpr int kKills = 100;
  std::mt19937 random(1);
  int written = 0;
  for (int kill = 0; kill < kKills; ++kill) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      auto catalogue = Catalogue::open(dir(), Use::kChange);
      if (!catalogue) ::_exit(1);
      for (std::uint64_t i = 0;; ++i) {
        const std::string name = fmt::format("m{}", i % 5);
        const CatalogueEntry entry = an_entry(name, i);
        const bool removed = i % 7 == 6 && (*catalogue)->remove(name, {entry.path});
        if (!removed && !(*catalogue)->put(entry)) ::_exit(2);
      }
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 30'000));
    ::kill(pid, SIGKILL);
    int status = 0;
    ::waitpid(pid, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the writer ended by itself: " << WEXITSTATUS(status);
    ASSERT_EQ(defect(), "") << "after kill " << kill;
    if (!names().empty()) ++written;
  }
  EXPECT_GT(written, kKills / 2);
  // Nothing was put aside, and it can be written.
  const auto catalogue = open();
  EXPECT_THAT(catalogue->notes(), IsEmpty());
  EXPECT_TRUE(catalogue->put(an_entry("after")));
}

// Puts models in until there is no room. 0 if the error was clear.
int fill(const fs::path& dir) {
  auto catalogue = Catalogue::open(dir, Use::kChange);
  for (int i = 0; catalogue; ++i) {
    if (i == 100) return 1;
    const auto put = (*catalogue)->put(an_entry(fmt::format("more{}", i)));
    if (put) continue;
    return put.error().code == kCatalogueFailed && !put.error().hint.empty() ? 0 : 2;
  }
  return catalogue.error().code == kCatalogueFailed && !catalogue.error().hint.empty() ? 0 : 3;
}

// A file may grow to each of these sizes: the limit strikes in every one of its files, at the
// front, in a page and between two.
TEST_F(CatalogueTest, AFileThatMayNotGrowIsAnErrorAndItStaysWhole) {
  for (std::uint64_t size = 0; size < 140'000; size += 4099) {
    fs::remove_all(dir());
    ASSERT_TRUE(open()->put(an_entry("before")));
    const int result = in_child([&] {
      std::signal(SIGXFSZ, SIG_IGN);
      rlimit limit{};
      ::getrlimit(RLIMIT_FSIZE, &limit);
      limit.rlim_cur = size;
      if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 20;
      return fill(dir());
    });
    ASSERT_TRUE(result == 0 || result == 1) << result << " at " << size;
    ASSERT_EQ(defect(), "") << "at " << size;
    ASSERT_THAT(names(), testing::Contains("before"));
    ASSERT_TRUE(open()->put(an_entry("after")));
  }
}

// Where not even that has room there is nothing to read.
bool catalogue_file_is_begun(const fs::path& file) {
  std::error_code error;
  return fs::exists(file.string() + "-shm", error) && fs::file_size(file, error) > 4096;
}

TEST_F(CatalogueTest, AFullDiskIsAnErrorAndItStaysWhole) {
  constexpr int kNoMounts = 77;
  fs::create_directories(dir());
  const int result = in_child([this] {
    if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
      return kNoMounts;
    }
    ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    int refused = 0;
    for (int pages = 2; pages < 60; ++pages) {
      const std::string size = fmt::format("size={}k", pages * 4);
      if (::mount("tmpfs", dir().c_str(), "tmpfs", 0, size.c_str()) != 0) return kNoMounts;
      const int filled = fill(dir());
      if (filled > 1) return 10 + filled;
      if (filled == 0) ++refused;
      if (!catalogue_file_is_begun(file())) {
        ::umount(dir().c_str());
        continue;
      }
      if (!defect().empty()) return 20;
      ::mount("tmpfs", dir().c_str(), "tmpfs", MS_REMOUNT, "size=10m");
      auto catalogue = Catalogue::open(dir(), Use::kChange);
      if (!catalogue || !(*catalogue)->notes().empty()) return 21;
      if (!(*catalogue)->put(an_entry("after"))) return 22;
      catalogue->reset();
      if (!defect().empty() || ::umount(dir().c_str()) != 0) return 23;
    }
    return refused > 20 ? 0 : 24;
  });
  if (result == kNoMounts) GTEST_SKIP() << "no file system can be mounted here";
  EXPECT_EQ(result, 0);
}

// Whoever wants to make room with `yoke rm` has none.
TEST_F(CatalogueTest, CanBeReadAndRemovedFromOnAFullDisk) {
  constexpr int kNoMounts = 77;
  fs::create_directories(dir());
  const int result = in_child([this] {
    if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
      return kNoMounts;
    }
    ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    if (::mount("tmpfs", dir().c_str(), "tmpfs", 0, "size=1m") != 0) return kNoMounts;
    for (int i = 0; i < 9; ++i) {
      auto catalogue = Catalogue::open(dir(), Use::kChange);
      if (!catalogue || !(*catalogue)->put(an_entry(fmt::format("m{}", i)))) return 1;
    }
    std::ofstream filler(dir() / "filler", std::ios::binary);
    while (filler << std::string(4096, 'x') << std::flush) {
    }
    if (fs::space(dir()).available > 0) return 2;
    if (names().size() != 9) return 3;
    for (int i = 0; i < 9; ++i) {
      auto catalogue = Catalogue::open(dir(), Use::kChange);
      if (!catalogue) return 4;
      if (!(*catalogue)->remove(fmt::format("m{}", i), {"/m/a", "/m/b"})) return 5;
      if (!(*catalogue)->settle_leftovers()) return 6;
    }
    return names().empty() && defect().empty() ? 0 : 7;
  });
  if (result == kNoMounts) GTEST_SKIP() << "no file system can be mounted here";
  EXPECT_EQ(result, 0);
}

TEST_F(CatalogueTest, ADamagedOneIsPutAsideByWhoChangesIt) {
  ASSERT_TRUE(open()->put(an_entry("a")));
  fs::remove(file().string() + "-wal");  // It would mend it.
  std::ofstream(file(), std::ios::binary) << std::string(20'000, 'x');
  const Error error = error_of_open(Use::kRead);
  EXPECT_EQ(error.code, kCatalogueFailed);
  EXPECT_EQ(error.message, file().string() + " is damaged.");
  EXPECT_THAT(error.hint, HasSubstr("`yoke import`"));

  const auto catalogue = open();
  ASSERT_THAT(catalogue->notes(), SizeIs(1));
  EXPECT_THAT(catalogue->notes().front(), HasSubstr("is damaged. It is kept as catalogue.db.dam"));
  EXPECT_TRUE(catalogue->put(an_entry("b")));
  EXPECT_THAT(names(), ElementsAre("b"));
}

TEST_F(CatalogueTest, ALaterYokesIsLeftAlone) {
  ASSERT_TRUE(open()->put(an_entry("a")));
  const auto set_version = [&](const char* sql) {
    const auto database = store::Database::open(file().string(), store::state_kind());
    return database && const_cast<store::Database&>(*database).run(sql);
  };
  ASSERT_TRUE(set_version("PRAGMA user_version = 99"));
  for (const Use use : {Use::kRead, Use::kChange}) {
    auto catalogue = Catalogue::open(dir(), use);
    const Error error = catalogue ? (*catalogue)->entries().error() : catalogue.error();
    EXPECT_THAT(error.message, HasSubstr("catalogue.db was made by a later Yoke"));
    EXPECT_EQ(error.code, kCatalogueFailed);
  }
  ASSERT_TRUE(set_version("PRAGMA user_version = 2"));
  EXPECT_THAT(names(), ElementsAre("a"));
}

TEST_F(CatalogueTest, PullsAreKnownUntilTheyHaveAnEntry) {
  const BegunPull a{"hf:org/a", {{"/m/a-1.gguf", 7}, {"/m/a-2.gguf", 0}}};
  const BegunPull b{"hf:org/b", {{"/m/b.gguf", 3}}};
  const auto catalogue = open();
  ASSERT_TRUE(catalogue->begin_pull(b));
  ASSERT_TRUE(catalogue->begin_pull({"hf:org/a", {{"/m/old.gguf", 1}}}));
  ASSERT_TRUE(catalogue->begin_pull(a));
  EXPECT_THAT(*catalogue->begun_pulls(), ElementsAre(a, b));
  EXPECT_THAT(*open(Use::kRead)->begun_pulls(), ElementsAre(a, b));
  ASSERT_TRUE(catalogue->put(an_entry("a")));
  EXPECT_THAT(*catalogue->begun_pulls(), ElementsAre(b));
  ASSERT_TRUE(catalogue->forget_pull("hf:org/b", {"/m/b.gguf.part"}));
  EXPECT_THAT(*catalogue->begun_pulls(), IsEmpty());
  EXPECT_THAT(*catalogue->leftovers(), ElementsAre("/m/b.gguf.part"));
  EXPECT_THAT(names(), ElementsAre("a"));
}

// What a pull writes again must not be swept away after it.
TEST_F(CatalogueTest, APullTakesItsFilesOutOfTheLeftovers) {
  const auto catalogue = open();
  ASSERT_TRUE(catalogue->forget_pull("hf:org/a", {"/m/a.gguf", "/m/a.gguf.part", "/m/b.gguf"}));
  ASSERT_TRUE(catalogue->begin_pull({"hf:org/a", {{"/m/a.gguf", 7}}}));
  EXPECT_THAT(*catalogue->leftovers(), ElementsAre("/m/b.gguf"));
}

TEST_F(CatalogueTest, AnOlderOneIsReadAndBroughtUp) {
  ASSERT_TRUE(open()->put(an_entry("a")));
  {
    auto database = store::Database::open(file().string(), store::state_kind());
    ASSERT_TRUE(database->run("DROP TABLE pulled_file; PRAGMA user_version = 1"));
  }
  EXPECT_THAT(*open(Use::kRead)->begun_pulls(), IsEmpty());
  EXPECT_THAT(names(), ElementsAre("a"));
  const BegunPull b{"hf:org/b", {{"/m/b.gguf", 3}}};
  ASSERT_TRUE(open()->begin_pull(b));
  EXPECT_THAT(*open(Use::kRead)->begun_pulls(), ElementsAre(b));
  EXPECT_THAT(names(), ElementsAre("a"));
}

// As a user who may read only; root may do anything.
int as_nobody(const fs::path& dir, const std::function<int()>& work) {
  return in_child([&] {
    fs::permissions(dir.parent_path(), fs::perms(0755));
    if (::geteuid() == 0 && ::setuid(65534) != 0) return 77;
    return work();
  });
}

TEST_F(CatalogueTest, IsReadWhereNothingMayBeWritten) {
  ASSERT_TRUE(open()->put(an_entry("a")));
  fs::permissions(dir(), fs::perms(0555));
  const auto read = [this] { return names() == std::vector<std::string>{"a"} ? 0 : 1; };
  EXPECT_EQ(as_nobody(dir(), read), 0);
  EXPECT_EQ(as_nobody(dir(),
                      [this] {
                        const Error error = error_of_open(Use::kChange);
                        return error.code == kCatalogueFailed &&
                                       error.hint.find("--models") != std::string::npos
                                   ? 0
                                   : 1;
                      }),
            0);
  fs::permissions(dir(), fs::perms(0755));
  // A writer is at work, or was killed: what is in the log counts too.
  const auto writer = open();
  ASSERT_TRUE(writer->put(an_entry("b")));
  fs::permissions(dir(), fs::perms(0555));
  EXPECT_EQ(
      as_nobody(dir(), [this] { return names() == std::vector<std::string>{"a", "b"} ? 0 : 1; }),
      0);
  fs::permissions(dir(), fs::perms(0755));
}

TEST_F(CatalogueTest, ADirectoryThatIsAFileIsAnError) {
  std::ofstream(dir()) << "x";
  EXPECT_EQ(error_of_open(Use::kChange).code, kCatalogueFailed);
}

}  // namespace
}  // namespace yoke::models
