#include "store/store.h"

#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "store/database.h"
#include "store/schema.h"

namespace yoke::store {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

const Time kNow = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (fs::temp_directory_path() / "yoke-store-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary directory");
    path_ = name;
  }
  ~TemporaryDirectory() { fs::remove_all(path_); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

Case a_case(std::string model = "chat", std::string backend = "vulkan") {
  return {std::move(model), "chat.gguf 12 34", std::move(backend), "llama.cpp 0.5.0", "RADV 25.2"};
}

Quarantine a_quarantine(Case of = a_case(), std::chrono::minutes left = 10min) {
  return {std::move(of), "gpu_hang", "It hung.", kNow - 1min, kNow + left, 2};
}

FailureRecord a_failure(std::string message, std::string model = "chat") {
  return {a_case(std::move(model)), "crash", std::move(message), "GGML_ASSERT", kNow};
}

std::vector<std::string> messages(const std::vector<FailureRecord>& failures) {
  std::vector<std::string> found;
  for (const FailureRecord& failure : failures) found.push_back(failure.message);
  return found;
}

// What a child process reports about itself: 0 if all went as it should.
int in_child(const std::function<int()>& work) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(work());
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

// "ok" if the file is whole.
std::string integrity_of(const fs::path& dir) {
  auto database = Database::open((dir / "state.db").string(), state_kind());
  auto check = database->prepare("PRAGMA integrity_check");
  const auto row = check->step();
  return row && *row ? check->text() : row.error().message;
}

class StoreTest : public testing::Test {
 protected:
  std::unique_ptr<Store> open() {
    auto store = Store::open(dir(), notes_);
    EXPECT_TRUE(store) << store.error().text();
    return std::move(*store);
  }
  Error error_of_open() const {
    std::vector<std::string> notes;
    auto store = Store::open(dir(), notes);
    EXPECT_FALSE(store);
    return store ? Error{kInternal, "none"} : store.error();
  }
  fs::path dir() const { return temporary_.path() / "state"; }
  fs::path file() const { return dir() / "state.db"; }

  TemporaryDirectory temporary_;
  std::vector<std::string> notes_;
};

TEST_F(StoreTest, KeepsEverythingFromOneStartToTheNext) {
  const CheckRecord check{a_case(), true, 0.0125, kNow};
  {
    const auto store = open();
    EXPECT_TRUE(store->put(a_quarantine()));
    EXPECT_TRUE(store->add(a_failure("first")));
    EXPECT_TRUE(store->add(a_failure("second")));
    EXPECT_TRUE(store->put(check));
    EXPECT_TRUE(store->put_reference("chat.gguf 12 34", 2100, R"({"a":[1]})"));
  }
  const auto store = open();
  EXPECT_THAT(notes_, IsEmpty());
  const auto quarantines = store->quarantines();
  ASSERT_THAT(*quarantines, SizeIs(1));
  const Quarantine& quarantine = quarantines->front();
  EXPECT_EQ(quarantine.of, a_case());
  EXPECT_EQ(quarantine.failure, "gpu_hang");
  EXPECT_EQ(quarantine.message, "It hung.");
  EXPECT_EQ(quarantine.since, kNow - 1min);
  EXPECT_EQ(quarantine.until, kNow + 10min);
  EXPECT_EQ(quarantine.count, 2);
  const auto failures = store->failures("chat", 20);
  EXPECT_THAT(messages(*failures), ElementsAre("second", "first"));
  EXPECT_EQ(failures->front().of, a_case());
  EXPECT_EQ(failures->front().evidence, "GGML_ASSERT");
  EXPECT_EQ(failures->front().time, kNow);
  const auto found = store->check(a_case());
  ASSERT_TRUE(found && *found);
  EXPECT_TRUE((*found)->agreed);
  EXPECT_DOUBLE_EQ((*found)->distance, 0.0125);
  EXPECT_EQ((*found)->time, kNow);
  EXPECT_EQ(store->reference("chat.gguf 12 34", 2100)->value_or(""), R"({"a":[1]})");
}

TEST_F(StoreTest, WhatIsKnownIsForOneCaseOnly) {
  const auto store = open();
  EXPECT_TRUE(store->put(CheckRecord{a_case(), true, 0, kNow}));
  EXPECT_TRUE(store->put_reference("a", 5, "text"));
  for (std::string Case::* const part :
       {&Case::model, &Case::file, &Case::backend, &Case::engine, &Case::driver}) {
    Case other = a_case();
    other.*part = "another";
    EXPECT_FALSE(store->check(other)->has_value());
  }
  EXPECT_FALSE(store->reference("b", 5)->has_value());
  EXPECT_FALSE(store->reference("a", 6)->has_value());
  EXPECT_THAT(*store->failures("other", 20), IsEmpty());
}

TEST_F(StoreTest, TextIsKeptAsItIs) {
  const auto store = open();
  const std::string odd("'; DROP TABLE failure; --\0\xff\n\"", 30);
  EXPECT_TRUE(store->add(a_failure(odd, odd)));
  EXPECT_THAT(messages(*store->failures(odd, 1)), ElementsAre(odd));
  EXPECT_TRUE(store->add(a_failure("", "")));
  EXPECT_THAT(messages(*store->failures("", 1)), ElementsAre(""));
}

TEST_F(StoreTest, ALaterRecordTakesThePlaceOfAnEarlier) {
  const auto store = open();
  EXPECT_TRUE(store->put(a_quarantine()));
  Quarantine longer = a_quarantine(a_case(), 20min);
  longer.count = 3;
  EXPECT_TRUE(store->put(longer));
  ASSERT_THAT(*store->quarantines(), SizeIs(1));
  EXPECT_EQ(store->quarantines()->front().count, 3);
  EXPECT_TRUE(store->put(CheckRecord{a_case(), true, 0, kNow}));
  EXPECT_TRUE(store->put(CheckRecord{a_case(), false, 0.9, kNow}));
  EXPECT_FALSE(store->check(a_case())->value().agreed);
  EXPECT_TRUE(store->put_reference("a", 5, "old"));
  EXPECT_TRUE(store->put_reference("a", 5, "new"));
  EXPECT_EQ(store->reference("a", 5)->value_or(""), "new");
}

TEST_F(StoreTest, AQuarantineIsForgottenLongAfterItsEnd) {
  const auto store = open();
  const auto week = std::chrono::minutes(Store::kForgetAfter);
  EXPECT_TRUE(store->put(a_quarantine(a_case("over"), -(week - 1min))));
  EXPECT_TRUE(store->put(a_quarantine(a_case("forgotten"), -(week + 1min))));
  ASSERT_THAT(*store->quarantines(), SizeIs(1));
  EXPECT_EQ(store->quarantines()->front().of.model, "over");
}

TEST_F(StoreTest, QuarantinesAreClearedByModelAndBackend) {
  const auto store = open();
  const auto fill = [&] {
    for (const char* model : {"a", "b"}) {
      for (const char* backend : {"vulkan", "rocm"}) {
        EXPECT_TRUE(store->put(a_quarantine(a_case(model, backend))));
      }
    }
  };
  fill();
  EXPECT_EQ(store->clear_quarantines("a", "rocm"), 1u);
  EXPECT_EQ(store->clear_quarantines("a", "rocm"), 0u);
  EXPECT_EQ(store->clear_quarantines("", "vulkan"), 2u);
  EXPECT_EQ(store->quarantines()->front().of, a_case("b", "rocm"));
  fill();
  EXPECT_EQ(store->clear_quarantines("b", ""), 2u);
  EXPECT_EQ(store->clear_quarantines("", ""), 2u);
  EXPECT_THAT(*store->quarantines(), IsEmpty());
}

TEST_F(StoreTest, OnlyTheNewestFailuresChecksAndReferencesAreKept) {
  const auto store = Store::in_memory().value();
  for (std::size_t i = 0; i < Store::kMaxFailures + 3; ++i) {
    ASSERT_TRUE(store->add(a_failure(std::to_string(i))));
  }
  const auto failures = *store->failures("chat", 5000);
  ASSERT_THAT(failures, SizeIs(Store::kMaxFailures));
  EXPECT_EQ(failures.front().message, std::to_string(Store::kMaxFailures + 2));
  EXPECT_EQ(failures.back().message, "3");
  EXPECT_THAT(*store->failures("chat", 2), SizeIs(2));

  for (std::size_t i = 0; i < Store::kMaxChecks + 3; ++i) {
    ASSERT_TRUE(store->put(CheckRecord{a_case(std::to_string(i)), true, 0, kNow}));
  }
  EXPECT_FALSE(store->check(a_case("2"))->has_value());
  EXPECT_TRUE(store->check(a_case("3"))->has_value());

  for (std::size_t i = 0; i < Store::kMaxReferences + 3; ++i) {
    ASSERT_TRUE(store->put_reference(std::to_string(i), 5, "text"));
  }
  EXPECT_FALSE(store->reference("2", 5)->has_value());
  EXPECT_TRUE(store->reference("3", 5)->has_value());
}

TEST_F(StoreTest, ACopyInMemoryHasEverything) {
  const auto store = open();
  EXPECT_TRUE(store->add(a_failure("first")));
  const auto memory = Store::in_memory().value();
  ASSERT_TRUE(store->copy_to(*memory));
  EXPECT_TRUE(memory->add(a_failure("second")));
  EXPECT_THAT(messages(*memory->failures("chat", 9)), ElementsAre("second", "first"));
  EXPECT_THAT(messages(*store->failures("chat", 9)), ElementsAre("first"));
}

TEST_F(StoreTest, IsForItsOwnerOnly) {
  const auto store = open();
  EXPECT_TRUE(store->add(a_failure("first")));
  struct stat info{};
  ASSERT_EQ(::stat(dir().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  for (const fs::directory_entry& entry : fs::directory_iterator(dir())) {
    ASSERT_EQ(::stat(entry.path().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600u) << entry.path();
  }
}

// Two at once

TEST_F(StoreTest, ASecondYokeIsRefused) {
  const auto store = open();
  EXPECT_EQ(
      in_child([this] {
        const Error error = error_of_open();
        const std::string holder = fmt::format("(process {})", ::getppid());
        return error.code == kStoreInUse && error.message.find(holder) != std::string::npos ? 0 : 1;
      }),
      0);
}

TEST_F(StoreTest, TheLockEndsWithItsProcess) {
  EXPECT_EQ(in_child([this]() -> int {
              const auto store = open();
              ::raise(SIGKILL);
              return 0;
            }),
            1000 + SIGKILL);
  EXPECT_TRUE(open());
}

TEST_F(StoreTest, OtherProgramsDoNotInheritTheLock) {
  auto store = open();
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(ends[0], STDIN_FILENO);
    ::execlp("cat", "cat", nullptr);
    ::_exit(1);
  }
  // The child has run `cat` when it has closed its copy of the pipe's other end, and then holds
  // nothing of this process.
  const auto is_cat = [pid] {
    std::ifstream name(fmt::format("/proc/{}/comm", pid));
    std::string text;
    return std::getline(name, text) && text == "cat";
  };
  const auto limit = std::chrono::steady_clock::now() + 10s;
  while (!is_cat() && std::chrono::steady_clock::now() < limit) std::this_thread::yield();
  EXPECT_TRUE(is_cat());
  store.reset();
  EXPECT_TRUE(open());
  ::close(ends[0]);
  ::close(ends[1]);
  EXPECT_EQ(::waitpid(pid, nullptr, 0), pid);
}

// What can befall the file

TEST_F(StoreTest, WhatWasWrittenSurvivesAKillAtAnyMoment) {
  int told[2];
  ASSERT_EQ(::pipe2(told, O_CLOEXEC), 0);
  int last = 0;  // The last one that a writer said was written.
  for (int round = 0; round < 25; ++round) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      const auto store = open();
      for (int i = last + 1;; ++i) {
        if (!store->add(a_failure(std::to_string(i)))) ::_exit(1);
        if (::write(told[1], &i, sizeof i) != sizeof i) ::_exit(1);
      }
    }
    int written = 0;
    for (int count = 0; count < 3 + round; ++count) {
      ASSERT_EQ(::read(told[0], &written, sizeof written), ssize_t{sizeof written});
    }
    std::this_thread::sleep_for(std::chrono::microseconds(137 * round));
    ::kill(pid, SIGKILL);
    int status = 0;
    ::waitpid(pid, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    // What it said between the last look and its end.
    ::fcntl(told[0], F_SETFL, O_NONBLOCK);
    while (::read(told[0], &written, sizeof written) == ssize_t{sizeof written}) last = written;
    ::fcntl(told[0], F_SETFL, 0);
    last = std::max(last, written);

    const auto store = open();
    EXPECT_EQ(integrity_of(dir()), "ok");
    const auto failures = store->failures("chat", 5000);
    ASSERT_TRUE(failures);
    const int newest = std::stoi(failures->front().message);
    EXPECT_GE(newest, last);
    EXPECT_LE(newest, last + 1);  // One may be written and not said.
    last = newest;
    for (std::size_t i = 0; i < failures->size(); ++i) {
      ASSERT_EQ(failures->at(i).message, std::to_string(newest - static_cast<int>(i)));
    }
  }
  EXPECT_THAT(notes_, IsEmpty());
  ::close(told[0]);
  ::close(told[1]);
}

TEST_F(StoreTest, AFileThatIsNoDatabaseIsPutAside) {
  fs::create_directories(dir());
  std::ofstream(file()) << std::string(5000, 'x');
  const auto store = open();
  ASSERT_THAT(notes_,
              ElementsAre(HasSubstr("state.db is damaged. It is kept as state.db.damaged-")));
  EXPECT_TRUE(store->add(a_failure("first")));
  const std::string kept = notes_.front().substr(notes_.front().find("state.db.damaged-"), 33);
  EXPECT_EQ(fs::file_size(dir() / kept), 5000u) << kept;
}

TEST_F(StoreTest, ADamagedFileIsPutAside) {
  {
    const auto store = open();
    for (int i = 0; i < 500; ++i) ASSERT_TRUE(store->add(a_failure(std::string(200, 'm'))));
  }
  std::fstream bytes(file(), std::ios::in | std::ios::out | std::ios::binary);
  bytes.seekp(8192);
  bytes << std::string(40000, '\x7f');
  bytes.close();
  const auto store = open();
  EXPECT_THAT(notes_, ElementsAre(HasSubstr("is damaged")));
  EXPECT_THAT(*store->failures("chat", 5), IsEmpty());
  EXPECT_TRUE(store->add(a_failure("first")));
  EXPECT_EQ(integrity_of(dir()), "ok");
}

TEST_F(StoreTest, ATornFileIsPutAside) {
  {
    const auto store = open();
    for (int i = 0; i < 500; ++i) ASSERT_TRUE(store->add(a_failure(std::string(200, 'm'))));
  }
  fs::resize_file(file(), fs::file_size(file()) / 2);
  EXPECT_TRUE(open()->add(a_failure("first")));
  EXPECT_THAT(notes_, ElementsAre(HasSubstr("is damaged")));
}

TEST_F(StoreTest, AnotherProgramsDatabaseIsPutAside) {
  fs::create_directories(dir());
  ASSERT_TRUE(Database::open(file().string(), state_kind())->run("CREATE TABLE theirs (a)"));
  EXPECT_TRUE(open()->add(a_failure("first")));
  EXPECT_THAT(notes_, ElementsAre(HasSubstr("is not Yoke's")));
}

TEST_F(StoreTest, AnEmptyFileIsFilled) {
  fs::create_directories(dir());
  std::ofstream{file()};
  EXPECT_TRUE(open()->add(a_failure("first")));
  EXPECT_THAT(notes_, IsEmpty());
}

TEST_F(StoreTest, ALaterYokesFileIsLeftAlone) {
  EXPECT_TRUE(open()->add(a_failure("first")));
  ASSERT_TRUE(Database::open(file().string(), state_kind())->run("PRAGMA user_version = 99"));
  const Error error = error_of_open();
  EXPECT_EQ(error.code, kStoreFailed);
  EXPECT_THAT(error.message, HasSubstr("version 99"));
  ASSERT_TRUE(Database::open(file().string(), state_kind())->run("PRAGMA user_version = 1"));
  EXPECT_THAT(messages(*open()->failures("chat", 5)), ElementsAre("first"));
}

TEST_F(StoreTest, ADirectoryThatIsAFileIsAnError) {
  std::ofstream(dir()) << "text";
  EXPECT_EQ(error_of_open().code, kStoreFailed);
}

TEST_F(StoreTest, AFileThatIsADirectoryIsAnError) {
  fs::create_directories(file());
  EXPECT_EQ(error_of_open().code, kStoreFailed);
}

TEST_F(StoreTest, ADirectoryThatMayNotBeWrittenIsAnError) {
  fs::permissions(temporary_.path(), fs::perms(0755));
  fs::create_directories(dir());
  fs::permissions(dir(), fs::perms(0555));
  EXPECT_EQ(in_child([this] {
              constexpr uid_t kNobody = 65534;
              if (::geteuid() == 0 && ::setresuid(kNobody, kNobody, kNobody) != 0) return 2;
              const Error error = error_of_open();
              const std::string hint = fmt::format("Make {} writable", dir().string());
              return error.code == kStoreFailed && error.hint.starts_with(hint) ? 0 : 1;
            }),
            0);
  fs::permissions(dir(), fs::perms(0755));
}

// Adds until that fails: 0 if the error is clear, all that was said to be written is there, and
// shorter things can be written once there is room again.
int fill_the_disk(const fs::path& dir, std::string_view message, const std::string& hint,
                  const std::function<void()>& make_room) {
  std::vector<std::string> notes;
  auto store = Store::open(dir, notes);
  if (!store) return 2;
  Result<void> added;
  std::size_t count = 0;
  for (; added && count < Store::kMaxFailures; ++count) {
    added = (*store)->add(a_failure(std::string(4000, 'm')));
  }
  if (added) return 3;
  if (added.error().code != kStoreFailed) return 4;
  if (added.error().message.find(message) == std::string::npos) return 5;
  if (!added.error().hint.starts_with(hint + dir.string())) return 6;
  const auto kept = (*store)->failures("chat", 5000);
  if (!kept || kept->size() != count - 1) return 7;
  make_room();
  if (!(*store)->add(a_failure("after"))) return 8;
  store->reset();
  auto again = Store::open(dir, notes);
  if (!again || !notes.empty() || integrity_of(dir) != "ok") return 9;
  return (*again)->failures("chat", 5000)->size() == count ? 0 : 10;
}

TEST_F(StoreTest, AFileThatMayNotGrowIsAnErrorAndStaysWhole) {
  EXPECT_EQ(in_child([this] {
              std::signal(SIGXFSZ, SIG_IGN);
              rlimit limit{};
              if (::getrlimit(RLIMIT_FSIZE, &limit) != 0) return 20;
              limit.rlim_cur = 300'000;
              if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 21;
              return fill_the_disk(dir(), "disk I/O error", "See that the disk of ", [&limit] {
                limit.rlim_cur = limit.rlim_max;
                ::setrlimit(RLIMIT_FSIZE, &limit);
              });
            }),
            0);
}

TEST_F(StoreTest, AFullDiskIsAnErrorAndTheFileStaysWhole) {
  constexpr int kNoMounts = 77;
  fs::create_directories(dir());
  const int result = in_child([this] {
    if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
      return kNoMounts;
    }
    ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    if (::mount("tmpfs", dir().c_str(), "tmpfs", 0, "size=600k") != 0) return kNoMounts;
    return fill_the_disk(dir(), "there is no space left", "Free some space in ", [this] {
      ::mount("tmpfs", dir().c_str(), "tmpfs", MS_REMOUNT, "size=10m");
    });
  });
  if (result == kNoMounts) GTEST_SKIP() << "no file system can be mounted here";
  EXPECT_EQ(result, 0);
}

}  // namespace
}  // namespace yoke::store
