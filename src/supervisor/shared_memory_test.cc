#include "supervisor/shared_memory.h"

#include <fcntl.h>
#include <fstream>
#include <functional>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "supervisor/process_tree.h"

namespace yoke::supervisor {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBytes = 4096;

// A file in /dev/shm of a name that is ours alone.
class ShmFile {
 public:
  explicit ShmFile(const std::string& prefix = "yoke-test-")
      : path_(fmt::format("/dev/shm/{}{}-{}", prefix, ::getpid(), ++count_)) {
    std::ofstream(path_) << std::string(kBytes, 'x');
    fs::permissions(path_, fs::perms::owner_read | fs::perms::owner_write);
  }
  ShmFile(const ShmFile&) = delete;
  ShmFile& operator=(const ShmFile&) = delete;
  ~ShmFile() {
    std::error_code gone;
    fs::remove(path_, gone);
  }
  const fs::path& path() const { return path_; }
  bool exists() const { return fs::exists(fs::symlink_status(path_)); }

 private:
  static inline int count_ = 0;
  fs::path path_;
};

void map(const fs::path& file) {
  const int fd = ::open(file.c_str(), O_RDWR);
  if (fd < 0 || ::mmap(nullptr, kBytes, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED) ::_exit(1);
  ::close(fd);
}

void open_only(const fs::path& file) {
  if (::open(file.c_str(), O_RDWR) < 0) ::_exit(1);
}

// A process that has done `work` and then sleeps until it is killed.
class Child {
 public:
  explicit Child(const std::function<void()>& work) {
    int ends[2];
    if (::pipe(ends) != 0) std::abort();
    pid_ = ::fork();
    if (pid_ == 0) {
      ::setsid();
      ::alarm(60);
      work();
      [[maybe_unused]] const ssize_t n = ::write(ends[1], "", 1);
      ::close(ends[0]);
      ::close(ends[1]);
      while (true) ::pause();
    }
    ::close(ends[1]);
    char byte = 1;
    EXPECT_EQ(::read(ends[0], &byte, 1), 1) << "it could not do its work";
    ::close(ends[0]);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() { kill(); }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
};

TEST(SharedMemory, WhatAKilledProcessLeftIsRemoved) {
  const ShmFile mapped;
  const ShmFile opened;
  const ShmFile others;
  Child child([&] {
    map(mapped.path());
    open_only(opened.path());
  });
  SharedMemory memory;
  memory.note(child.pid());
  EXPECT_EQ(memory.remove_leftovers(), 0u) << "the process lives";
  EXPECT_TRUE(mapped.exists());
  EXPECT_TRUE(opened.exists());

  memory.note(child.pid());
  child.kill();
  EXPECT_EQ(memory.remove_leftovers(), 2u);
  EXPECT_FALSE(mapped.exists());
  EXPECT_FALSE(opened.exists());
  EXPECT_TRUE(others.exists());
  EXPECT_EQ(memory.remove_leftovers(), 0u);
}

TEST(SharedMemory, WhatAnotherProcessHasIsKept) {
  const ShmFile file;
  Child child([&] { map(file.path()); });
  Child other([&] { map(file.path()); });
  SharedMemory memory;
  memory.note(child.pid());
  child.kill();
  EXPECT_EQ(memory.remove_leftovers(), 0u);
  EXPECT_TRUE(file.exists());
}

TEST(SharedMemory, OnlyPlainFilesOfThisUserAreRemoved) {
  const ShmFile file;
  Child child([&] { map(file.path()); });
  SharedMemory memory;
  memory.note(child.pid());
  child.kill();
  // Another file of the same name has taken its place.
  fs::remove(file.path());
  fs::create_symlink("/dev/null", file.path());
  EXPECT_EQ(memory.remove_leftovers(), 0u);
  EXPECT_TRUE(file.exists());
}

TEST(SharedMemory, PythonsSemaphoresThatNobodyHoldsGoToo) {
  const ShmFile older("sem.mp-yoke");
  // Files are stamped with a clock that moves in steps of some milliseconds.
  const timespec pause{0, 20'000'000};
  ::nanosleep(&pause, nullptr);
  SharedMemory tree;
  const ShmFile unheld("sem.mp-yoke");
  const ShmFile held("sem.mp-yoke");
  const ShmFile block("psm_yoke");
  Child child([&] { map(block.path()); });
  Child other([&] { map(held.path()); });
  tree.note(child.pid());
  child.kill();
  EXPECT_EQ(tree.remove_leftovers(), 2u);
  EXPECT_FALSE(unheld.exists());
  EXPECT_FALSE(block.exists());
  EXPECT_TRUE(held.exists());
  EXPECT_TRUE(older.exists()) << "it was there before the tree";
}

TEST(SharedMemory, SemaphoresStayWherePythonWasNotSeen) {
  SharedMemory memory;
  const ShmFile semaphore("sem.mp-yoke");
  const ShmFile file;
  Child child([&] { map(file.path()); });
  memory.note(child.pid());
  child.kill();
  EXPECT_EQ(memory.remove_leftovers(), 1u);
  EXPECT_TRUE(semaphore.exists());
}

TEST(SharedMemory, AProcessThatIsGoneOrDeletedItsFileLeavesNothingToDo) {
  SharedMemory memory;
  memory.note(0x7ffffff0);
  const ShmFile file;
  Child child([&] { map(file.path()); });
  fs::remove(file.path());
  memory.note(child.pid());
  child.kill();
  EXPECT_EQ(memory.remove_leftovers(), 0u);
}

TEST(ProcessTree, RemovesTheSharedMemoryOfItsProcesses) {
  const ShmFile file;
  const Child leader([&] { map(file.path()); });
  {
    ProcessTree tree(leader.pid(), "YOKE_TEST_MARK=1");
    tree.sweep(ProcessTree::Action::kKill);
    siginfo_t info{};
    // Dead, but not reaped before the tree goes.
    ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(leader.pid()), &info, WEXITED | WNOWAIT), 0);
    EXPECT_TRUE(file.exists());
  }
  EXPECT_FALSE(file.exists());
}

}  // namespace
}  // namespace yoke::supervisor
