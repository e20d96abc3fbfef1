#include "contexts/saved_contexts.h"

#include <chrono>
#include <fcntl.h>
#include <set>
#include <sys/stat.h>
#include <thread>

#include <gtest/gtest.h>

#include "contexts/sidecar.h"
#include "contexts/test_support.h"

namespace yoke::contexts {
namespace {

namespace fs = std::filesystem;
using testing::numbers;
using testing::slot_file_text;

constexpr std::uint64_t kPlenty = 1u << 30;
const ContextKey kKey{"model a, build 1"};
const ContextKey kOther{"model b, build 1"};

class SavedContextsTest : public ::testing::Test {
 protected:
  std::unique_ptr<SavedContexts> open(std::uint64_t max_bytes = kPlenty) {
    auto opened = SavedContexts::open(dir_.path() / "contexts", max_bytes);
    EXPECT_TRUE(opened) << opened.error().text();
    return opened ? *std::move(opened) : nullptr;
  }

  // What an engine does between begin() and keep().
  static Result<SavedContext> save(SavedContexts& saved, const ContextKey& key,
                                   const std::vector<std::int32_t>& tokens,
                                   std::size_t state = 1000) {
    const std::string file = saved.begin(key);
    const std::string text = slot_file_text(tokens, state);
    testing::write_file(saved.directory() / file, text);
    return saved.keep(key, file, text.size(), "chat");
  }

  std::set<std::string> files() const {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(dir_.path() / "contexts")) {
      names.insert(entry.path().filename());
    }
    return names;
  }

  static std::vector<std::int32_t> first_tokens(const SavedContexts& saved, const ContextKey& key) {
    std::vector<std::int32_t> firsts;
    for (const SavedContext& context : saved.of(key)) firsts.push_back(context.tokens->front());
    return firsts;
  }

  fs::path path(const std::string& file) const { return dir_.path() / "contexts" / file; }

  testing::TempDir dir_;
};

TEST_F(SavedContextsTest, AreThereAtOnceAndAfterARestart) {
  auto saved = open();
  const auto kept = save(*saved, kKey, numbers(10, 500));
  ASSERT_TRUE(kept) << kept.error().text();
  ASSERT_EQ(saved->of(kKey).size(), 1u);
  EXPECT_TRUE(saved->of(kOther).empty());
  saved.reset();
  saved = open();
  const auto found = saved->of(kKey);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].file, kept->file);
  EXPECT_EQ(found[0].bytes, kept->bytes);
  EXPECT_EQ(*found[0].tokens, numbers(10, 500));
  EXPECT_EQ(files(), (std::set<std::string>{kept->file, kept->file + ".json"}));
}

TEST_F(SavedContextsTest, AreReadByTheirOwnerOnly) {
  auto saved = open();
  const auto kept = save(*saved, kKey, numbers(10, 500));
  ASSERT_TRUE(kept);
  struct stat status{};
  ASSERT_EQ(::stat(saved->directory().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777u, 0700u);
  ASSERT_EQ(::stat(path(kept->file).c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777u, 0600u);
}

TEST_F(SavedContextsTest, KeepTheNewestWithinTheLimit) {
  const std::uint64_t each = slot_file_text(numbers(0, 300), 1000).size();
  auto saved = open(3 * each);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(save(*saved, kKey, numbers(i * 1000, 300)));
  EXPECT_EQ(first_tokens(*saved, kKey), (std::vector<std::int32_t>{4000, 3000, 2000}));
  // Of other keys too.
  ASSERT_TRUE(save(*saved, kOther, numbers(9000, 300)));
  EXPECT_EQ(first_tokens(*saved, kKey), (std::vector<std::int32_t>{4000, 3000}));
  saved.reset();
  EXPECT_EQ(files().size(), 6u);
  saved = open(each);
  EXPECT_EQ(first_tokens(*saved, kOther), (std::vector<std::int32_t>{9000}));
  EXPECT_TRUE(saved->of(kKey).empty());
  EXPECT_EQ(files().size(), 2u);
}

TEST_F(SavedContextsTest, CountUseAsNew) {
  const std::uint64_t each = slot_file_text(numbers(0, 300), 1000).size();
  auto saved = open(2 * each);
  const auto first = save(*saved, kKey, numbers(1000, 300));
  ASSERT_TRUE(save(*saved, kKey, numbers(2000, 300)));
  ASSERT_TRUE(saved->use(first->file));
  ASSERT_TRUE(save(*saved, kKey, numbers(3000, 300)));
  EXPECT_EQ(first_tokens(*saved, kKey), (std::vector<std::int32_t>{3000, 1000}));
}

TEST_F(SavedContextsTest, OrderOutlivesARestart) {
  std::string first;
  {
    auto saved = open();
    first = save(*saved, kKey, numbers(1000, 300))->file;
    ASSERT_TRUE(save(*saved, kKey, numbers(2000, 300)));
  }
  const timespec old[2] = {{100, 0}, {100, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, path(first + ".json").c_str(), old, 0), 0);
  auto saved = open();
  EXPECT_EQ(first_tokens(*saved, kKey), (std::vector<std::int32_t>{2000, 1000}));
  ASSERT_TRUE(saved->use(first));
  EXPECT_EQ(first_tokens(*saved, kKey), (std::vector<std::int32_t>{1000, 2000}));
  saved.reset();
  saved = open();
  EXPECT_EQ(first_tokens(*saved, kKey), (std::vector<std::int32_t>{1000, 2000}));
}

TEST_F(SavedContextsTest, OfWhichANewerOneLacksNextToNothingGo) {
  auto saved = open();
  ASSERT_TRUE(save(*saved, kKey, numbers(0, 1000)));
  ASSERT_TRUE(save(*saved, kKey, numbers(0, 1500)));
  EXPECT_EQ(saved->of(kKey).size(), 1u);
  // Another end of the same conversation.
  std::vector<std::int32_t> other_end = numbers(0, 1300);
  other_end.resize(1600, 1);
  ASSERT_TRUE(save(*saved, kKey, other_end));
  EXPECT_EQ(saved->of(kKey).size(), 1u);
  other_end = numbers(0, 800);
  other_end.resize(1600, 2);
  ASSERT_TRUE(save(*saved, kKey, other_end));
  EXPECT_EQ(saved->of(kKey).size(), 2u);
  ASSERT_TRUE(save(*saved, kOther, other_end));
  EXPECT_EQ(saved->of(kKey).size(), 2u);
}

TEST_F(SavedContextsTest, AreNotKeptIfCutAnywhere) {
  auto saved = open();
  const std::string whole = slot_file_text(numbers(0, 30), 50);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::string file = saved->begin(kKey);
    testing::write_file(saved->directory() / file, whole.substr(0, size));
    const auto kept = saved->keep(kKey, file, whole.size(), "chat");
    ASSERT_FALSE(kept) << size;
    EXPECT_EQ(kept.error().code, kIo);
  }
  const auto missing = saved->keep(kKey, saved->begin(kKey), whole.size(), "chat");
  EXPECT_FALSE(missing);
  EXPECT_TRUE(saved->of(kKey).empty());
  EXPECT_TRUE(files().empty());
}

TEST_F(SavedContextsTest, AreNotKeptIfTooLarge) {
  auto saved = open(2000);
  ASSERT_TRUE(save(*saved, kKey, numbers(0, 50), 100));
  const auto kept = save(*saved, kKey, numbers(1000, 300), 5000);
  ASSERT_FALSE(kept);
  EXPECT_NE(kept.error().hint.find("max_size"), std::string::npos);
  EXPECT_EQ(saved->of(kKey).size(), 1u);
  EXPECT_FALSE(saved->make_room(2001));
  EXPECT_EQ(saved->of(kKey).size(), 1u);
  EXPECT_TRUE(saved->make_room(2000));
  EXPECT_TRUE(saved->of(kKey).empty());
}

TEST_F(SavedContextsTest, MakeNoRoomForWhatTheDiskCanNotHold) {
  auto saved = open(UINT64_MAX);
  ASSERT_TRUE(save(*saved, kKey, numbers(0, 300)));
  EXPECT_TRUE(saved->make_room(1));
  const auto room = saved->make_room(std::uint64_t{1} << 60);
  ASSERT_FALSE(room);
  EXPECT_NE(room.error().message.find("nearly full"), std::string::npos);
  EXPECT_EQ(saved->of(kKey).size(), 1u);
}

TEST_F(SavedContextsTest, StayWhileInUse) {
  const std::uint64_t each = slot_file_text(numbers(0, 300), 1000).size();
  auto saved = open(each);
  const auto first = save(*saved, kKey, numbers(1000, 300));
  {
    const auto use = saved->use(first->file);
    ASSERT_TRUE(use);
    ASSERT_TRUE(save(*saved, kKey, numbers(2000, 300)));
    EXPECT_TRUE(fs::exists(path(first->file)));
    saved->discard(first->file);
    EXPECT_TRUE(fs::exists(path(first->file)));
    EXPECT_EQ(first_tokens(*saved, kKey), (std::vector<std::int32_t>{2000}));
    EXPECT_FALSE(saved->use(first->file));
  }
  EXPECT_FALSE(fs::exists(path(first->file)));
}

TEST_F(SavedContextsTest, MayBeInUseLongerThanTheDirectory) {
  auto saved = open();
  const auto use = saved->use(save(*saved, kKey, numbers(0, 300))->file);
  ASSERT_TRUE(use);
  saved.reset();
}

TEST_F(SavedContextsTest, AreNotUsedOnceChanged) {
  auto saved = open();
  const auto kept = save(*saved, kKey, numbers(0, 300));
  fs::resize_file(path(kept->file), kept->bytes - 1);
  EXPECT_FALSE(saved->use(kept->file));
  fs::remove(path(kept->file));
  EXPECT_FALSE(saved->use(kept->file));
  EXPECT_FALSE(saved->use("ctx-none.kv"));
}

// Whatever was done last when the machine stopped.
TEST_F(SavedContextsTest, AreForgottenUnlessWrittenWhole) {
  SavedContext kept;
  {
    auto saved = open();
    kept = *save(*saved, kKey, numbers(0, 300));
  }
  const std::string data = testing::read_file(path(kept.file));
  const std::string sidecar = testing::read_file(path(kept.file + ".json"));
  const auto refill = [&](const std::string& what_file, const std::string& what) {
    for (const std::string& file : files()) fs::remove(path(file));
    testing::write_file(path(what_file), what);
  };
  refill(kept.file + ".part", data);
  EXPECT_TRUE(open()->of(kKey).empty());
  EXPECT_TRUE(files().empty());
  refill(kept.file, data);
  EXPECT_TRUE(open()->of(kKey).empty());
  EXPECT_TRUE(files().empty());
  refill(kept.file + ".json.part", sidecar);
  EXPECT_TRUE(open()->of(kKey).empty());
  EXPECT_TRUE(files().empty());
  refill(kept.file + ".json", sidecar);
  EXPECT_TRUE(open()->of(kKey).empty());
  EXPECT_TRUE(files().empty());
}

TEST_F(SavedContextsTest, AreForgottenIfTheSidecarLies) {
  const std::string data = slot_file_text(numbers(0, 300), 1000);
  const std::string name = new_context_name("k");
  const auto try_with = [&](const std::string& sidecar, const std::string& text) {
    testing::write_file(path(name), text);
    testing::write_file(path(name + ".json"), sidecar);
    const std::size_t found = open()->of(kKey).size();
    EXPECT_EQ(files().size(), 2 * found);
    return found;
  };
  open().reset();
  testing::write_file(path(name), data);
  struct stat status{};
  ASSERT_EQ(::stat(path(name).c_str(), &status), 0);
  EXPECT_EQ(try_with("", data), 0u);
  EXPECT_EQ(try_with(std::string(1u << 20, '['), data), 0u);
  EXPECT_EQ(try_with(sidecar_text({kKey.text, "m", data.size(), 300, 5}), data), 0u);
  // The right one, but for what differs.
  const auto good = [&](std::uint64_t bytes, std::uint64_t tokens) {
    testing::write_file(path(name), data);
    struct stat now{};
    ::stat(path(name).c_str(), &now);
    testing::write_file(path(name + ".json"),
                        sidecar_text({kKey.text, "m", bytes, tokens,
                                      now.st_mtim.tv_sec * 1'000'000'000 + now.st_mtim.tv_nsec}));
    return open()->of(kKey).size();
  };
  EXPECT_EQ(good(data.size() + 1, 300), 0u);
  EXPECT_EQ(good(data.size(), 301), 0u);
  EXPECT_EQ(good(data.size(), 300), 1u);
}

TEST_F(SavedContextsTest, LeaveOtherPeoplesFilesAlone) {
  open().reset();
  const std::set<std::string> others{"notes.part", "ctx-mine.kv", "model.kv.json", "x.json"};
  for (const std::string& name : others) testing::write_file(path(name), "mine");
  fs::create_directory(path("sub"));
  auto saved = open(1000);
  ASSERT_TRUE(save(*saved, kKey, numbers(0, 50), 100));
  saved.reset();
  saved = open(0);
  std::set<std::string> left = files();
  EXPECT_EQ(left.erase("sub"), 1u);
  EXPECT_EQ(left, others);
}

TEST_F(SavedContextsTest, BelongToOneProcess) {
  const auto saved = open();
  const auto second = SavedContexts::open(dir_.path() / "contexts", kPlenty);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, kIo);
}

TEST_F(SavedContextsTest, AreCountedWhereTheyAreOfNoUse) {
  auto saved = open();
  ASSERT_TRUE(save(*saved, kKey, numbers(0, 300)));
  EXPECT_EQ(saved->others_of("chat", kKey), 0u);
  EXPECT_EQ(saved->others_of("chat", kOther), 1u);
  EXPECT_EQ(saved->others_of("none", kOther), 0u);
}

// An engine that is told to stop saving may have opened the file by then or not.
TEST_F(SavedContextsTest, AbandonedOnesGoWhenTheyAppear) {
  auto saved = open();
  const std::string late = saved->begin(kKey);
  saved->discard(late);
  testing::write_file(path(late), "late");
  EXPECT_NE(saved->begin(kKey), late);
  EXPECT_TRUE(files().empty());
  const std::string later = saved->begin(kKey);
  saved->discard(later);
  testing::write_file(path(later), "later");
  saved.reset();
  EXPECT_TRUE(files().empty());
}

TEST_F(SavedContextsTest, CanBeUsedFromManyThreads) {
  const std::uint64_t each = slot_file_text(numbers(0, 300), 1000).size();
  auto saved = open(4 * each);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const auto kept = save(*saved, kKey, numbers((t * 100 + i) * 1000, 300));
        ASSERT_TRUE(kept) << kept.error().text();
        for (const SavedContext& context : saved->of(kKey)) {
          if (const auto use = saved->use(context.file)) saved->of(kOther);
        }
        if (i % 7 == 0) saved->discard(kept->file);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(saved->of(kKey).size(), 4u);
  saved.reset();
  saved = open();
  EXPECT_EQ(files().size(), 2 * saved->of(kKey).size());
}

}  // namespace
}  // namespace yoke::contexts
