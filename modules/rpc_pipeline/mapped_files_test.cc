#include "rpc_pipeline/mapped_files.h"

#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/mman.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rpc_pipeline/file_test_support.h"

namespace rpc_pipeline {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

const std::size_t kPage = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));

/// A mapping of a file, for as long as it lives.
class MappedFile {
 public:
  MappedFile(const std::string& path, std::size_t size, std::size_t offset = 0,
             int flags = MAP_SHARED)
      : size_(size) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    EXPECT_GE(fd, 0) << path;
    void* const data = ::mmap(nullptr, size, PROT_READ, flags, fd, static_cast<off_t>(offset));
    EXPECT_NE(data, MAP_FAILED);
    data_ = static_cast<const char*>(data);
    ::close(fd);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile() { ::munmap(const_cast<char*>(data_), size_); }

  const char* data() const { return data_; }

  void unmap(std::size_t offset, std::size_t size) {
    EXPECT_EQ(::munmap(const_cast<char*>(data_) + offset, size), 0);
  }

 private:
  const char* data_ = nullptr;
  std::size_t size_;
};

std::string read_range(const FileRange& range) {
  std::string text(range.size, '\0');
  const ssize_t count =
      ::pread(range.file->fd, text.data(), range.size, static_cast<off_t>(range.offset));
  EXPECT_EQ(count, static_cast<ssize_t>(range.size));
  return text;
}

/// Finds what lies at the address, and that the file says the same as the memory.
void expect_found(MappedFiles& files, const char* data, std::size_t size, std::uint64_t offset) {
  const auto range = files.find(data, size);
  ASSERT_TRUE(range);
  EXPECT_EQ(range->offset, offset);
  EXPECT_EQ(range->size, size);
  EXPECT_EQ(read_range(*range), std::string(data, size));
}

TEST(ParseMappings, ReadsSharedFileMappings) {
  const auto found = parse_mappings(
      "55d0c0000000-55d0c0001000 r-xp 00000000 fd:01 77                         /usr/bin/llama\n"
      "7f1200000000-7f1200003000 r--s 00001000 fd:01 1234                       /models/a b.gguf\n"
      "7f1200003000-7f1200004000 rw-s fffffffff000 103:02 18446744073709551615 /models/c\n");
  ASSERT_THAT(found, SizeIs(2));
  EXPECT_EQ(found[0].begin, 0x7f1200000000U);
  EXPECT_EQ(found[0].end, 0x7f1200003000U);
  EXPECT_EQ(found[0].offset, 0x1000U);
  EXPECT_EQ(found[0].inode, 1234U);
  EXPECT_EQ(found[0].path, "/models/a b.gguf");
  EXPECT_EQ(found[1].offset, 0xfffffffff000U);
  EXPECT_EQ(found[1].inode, 18446744073709551615U);
}

TEST(ParseMappings, PassesOverWhatIsNoFileOrMayDifferFromIt) {
  EXPECT_THAT(
      parse_mappings("1000-2000 rw-p 00000000 00:00 0 \n"
                     "1000-2000 rw-p 00000000 00:00 0                    [heap]\n"
                     "1000-2000 rw-s 00000000 00:01 5                    /dev/zero (deleted)\n"
                     "1000-2000 r--s 00000000 00:01 5                    /memfd:x (deleted)\n"
                     "1000-2000 r--s 00000000 fd:01 5                    /a.gguf (deleted)\n"
                     "1000-2000 r--s 00000000 00:0e 5                    anon_inode:[perf]\n"
                     "1000-2000 -w-s 00000000 fd:01 5                    /unreadable\n"
                     "1000-2000 r--p 00000000 fd:01 5                    /private\n"),
      IsEmpty());
}

TEST(ParseMappings, PassesOverDamagedLines) {
  for (const char* const line : {"",
                                 " ",
                                 "-",
                                 "1000",
                                 "1000-",
                                 "1000-2000",
                                 "1000-2000 ",
                                 "1000-2000 r--s",
                                 "1000-2000 r--s 0",
                                 "1000-2000 r--s 0 fd:01",
                                 "1000-2000 r--s 0 fd:01 5",
                                 "1000-2000 r--s 0 fd:01 5 ",
                                 "2000-1000 r--s 0 fd:01 5 /a",
                                 "1000-1000 r--s 0 fd:01 5 /a",
                                 "x000-2000 r--s 0 fd:01 5 /a",
                                 "1000-20x0 r--s 0 fd:01 5 /a",
                                 "1000-2000 r--s x fd:01 5 /a",
                                 "1000-2000 r--s 0 fd:01 x /a",
                                 "1000-2000 r--s 0 fd:01 -5 /a",
                                 "1000-2000 r-s 0 fd:01 5 /a",

                                 "11111111111111111-2 r--s 0 fd:01 5 /a",
                                 "1000-2000 r--s ffffffffffffffff fd:01 5 /a",
                                 "1000-2000 r--s 0 fd:01 5 a"}) {
    EXPECT_THAT(parse_mappings(std::string(line) + "\n"), IsEmpty()) << line;
  }
  // The last line has no end: half of it may be missing.
  EXPECT_THAT(parse_mappings("1000-2000 r--s 0 fd:01 5 /a"), IsEmpty());
  EXPECT_THAT(parse_mappings("nonsense\n1000-2000 r--s 0 fd:01 5 /a\n"), SizeIs(1));
}

TEST(MappedFiles, FindsTheFileAndThePlace) {
  const TempDir dir;
  const std::string path = dir.file("model.gguf");
  write_file(path, noise(3 * kPage + 100));
  const MappedFile mapped(path, 3 * kPage + 100);
  MappedFiles files;

  expect_found(files, mapped.data(), 3 * kPage + 100, 0);
  expect_found(files, mapped.data() + 5, 1, 5);
  expect_found(files, mapped.data() + kPage - 3, kPage + 7, kPage - 3);
  expect_found(files, mapped.data() + 3 * kPage + 99, 1, 3 * kPage + 99);
}

TEST(MappedFiles, FindsNothingBeyondTheFile) {
  const TempDir dir;
  const std::string path = dir.file("model.gguf");
  write_file(path, noise(kPage + 100));
  const MappedFile mapped(path, kPage + 100);
  MappedFiles files;

  EXPECT_FALSE(files.find(mapped.data() + kPage, 101));
  EXPECT_FALSE(files.find(mapped.data() + kPage + 100, 1));
  EXPECT_FALSE(files.find(mapped.data(), 64 * kPage));
  EXPECT_FALSE(files.find(mapped.data(), 0));
  EXPECT_FALSE(files.find(mapped.data(), ~std::uint64_t{0}));
}

TEST(MappedFiles, CountsTheOffsetOfTheMapping) {
  const TempDir dir;
  const std::string path = dir.file("model.gguf");
  write_file(path, noise(5 * kPage));
  const MappedFile mapped(path, 2 * kPage, 3 * kPage);
  MappedFiles files;
  expect_found(files, mapped.data() + 10, kPage, 3 * kPage + 10);
}

TEST(MappedFiles, FindsWhatIsLeftAfterAPartWasUnmapped) {
  const TempDir dir;
  const std::string path = dir.file("model.gguf");
  write_file(path, noise(6 * kPage));
  MappedFile mapped(path, 6 * kPage);
  mapped.unmap(2 * kPage, kPage);
  MappedFiles files;

  expect_found(files, mapped.data(), 2 * kPage, 0);
  expect_found(files, mapped.data() + 3 * kPage, 3 * kPage, 3 * kPage);
  EXPECT_FALSE(files.find(mapped.data() + 2 * kPage, kPage));
  EXPECT_FALSE(files.find(mapped.data() + kPage, 3 * kPage));
}

TEST(MappedFiles, JoinsAdjacentMappings) {
  const TempDir dir;
  const std::string path = dir.file("model.gguf");
  write_file(path, noise(6 * kPage));
  const MappedFile mapped(path, 6 * kPage);
  // Other advice for a part makes three mappings of one.
  ASSERT_EQ(::madvise(const_cast<char*>(mapped.data()) + 2 * kPage, kPage, MADV_RANDOM), 0);
  MappedFiles files;
  expect_found(files, mapped.data() + kPage, 4 * kPage, kPage);

  // One that continues in memory and not in the file.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_NE(::mmap(const_cast<char*>(mapped.data()) + 3 * kPage, kPage, PROT_READ,
                   MAP_SHARED | MAP_FIXED, fd, 0),
            MAP_FAILED);
  ::close(fd);
  EXPECT_FALSE(files.find(mapped.data() + kPage, 4 * kPage));
  expect_found(files, mapped.data() + 3 * kPage, kPage, 0);
}

TEST(MappedFiles, KnowsNoFileBehindOtherMemory) {
  const TempDir dir;
  const std::string path = dir.file("model.gguf");
  write_file(path, noise(2 * kPage));
  MappedFiles files;

  const std::string heap(100, 'x');
  EXPECT_FALSE(files.find(heap.data(), heap.size()));
  void* const anonymous =
      ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  EXPECT_FALSE(files.find(anonymous, kPage));
  ::munmap(anonymous, kPage);
  const MappedFile mapped_privately(path, 2 * kPage, 0, MAP_PRIVATE);
  EXPECT_FALSE(files.find(mapped_privately.data(), kPage));
  EXPECT_FALSE(files.find(nullptr, 1));
}

TEST(MappedFiles, ForgetsWhatIsNoLongerMapped) {
  const TempDir dir;
  const std::string path = dir.file("model.gguf");
  write_file(path, noise(2 * kPage));
  const MappedFile mapped(path, 2 * kPage);
  MappedFiles files;
  const auto held = files.find(mapped.data(), kPage);
  ASSERT_TRUE(held);

  // Other memory at the same address.
  ASSERT_NE(::mmap(const_cast<char*>(mapped.data()), 2 * kPage, PROT_READ,
                   MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0),
            MAP_FAILED);
  EXPECT_FALSE(files.find(mapped.data(), kPage));
}

TEST(MappedFiles, DoesNotTakeAFileThatWasDeletedOrReplaced) {
  const TempDir dir;
  const std::string path = dir.file("model.gguf");
  write_file(path, noise(kPage, 1));
  const MappedFile mapped(path, kPage);
  MappedFiles files;
  const auto held = files.find(mapped.data(), kPage);
  ASSERT_TRUE(held);

  write_file(dir.file("other.gguf"), noise(kPage, 2));
  std::filesystem::rename(dir.file("other.gguf"), path);
  EXPECT_FALSE(files.find(mapped.data(), kPage));
  EXPECT_EQ(read_range(*held), std::string(mapped.data(), kPage)) << "the old one, still open";

  const MappedFile again(path, kPage);
  expect_found(files, again.data(), kPage, 0);
  std::filesystem::remove(path);
  EXPECT_FALSE(files.find(again.data(), kPage));
}

TEST(MappedFiles, ReadsOddNames) {
  const TempDir dir;
  MappedFiles files;
  for (const char* const name :
       {"two words.gguf", "  spaces  ", "line\nend", "\n", "tab\there", "back\\slash",
        "ünïcödé 模型", "quote\"'", "(deleted)", "-", "[heap]", "\x01\x7f\xff"}) {
    const std::string path = dir.file(name);
    write_file(path, noise(kPage));
    const MappedFile mapped(path, kPage);
    const auto range = files.find(mapped.data(), kPage);
    ASSERT_TRUE(range) << name;
    EXPECT_EQ(range->file->path, path);
  }
}

TEST(MappedFiles, TakesNoOtherFileForAnAmbiguousName) {
  const TempDir dir;
  // The kernel shows both names alike.
  write_file(dir.file("a\nb"), noise(kPage, 1));
  write_file(dir.file("a\\012b"), noise(kPage, 2));
  const MappedFile line_end(dir.file("a\nb"), kPage);
  const MappedFile backslash(dir.file("a\\012b"), kPage);
  MappedFiles files;
  expect_found(files, line_end.data(), kPage, 0);
  EXPECT_FALSE(files.find(backslash.data(), kPage));
}

TEST(MappedFiles, KeepsAFileOpenWhileARangeIsHeld) {
  const TempDir dir;
  const std::string path = dir.file("model.gguf");
  write_file(path, noise(2 * kPage));
  const MappedFile mapped(path, 2 * kPage);
  MappedFiles files;

  auto first = files.find(mapped.data(), 10);
  auto second = files.find(mapped.data() + 10, 10);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->file, second->file);
  EXPECT_EQ(first->file->size, 2 * kPage);
  const int fd = first->file->fd;
  first.reset();
  EXPECT_NE(::fcntl(fd, F_GETFD), -1);
  second.reset();
  EXPECT_EQ(::fcntl(fd, F_GETFD), -1) << "still open";
}

TEST(WeightFile, OpensRegularFilesOnly) {
  const TempDir dir;
  EXPECT_FALSE(WeightFile::open(dir.file("missing")));
  EXPECT_FALSE(WeightFile::open(dir.file("")));
  EXPECT_FALSE(WeightFile::open("/dev/null"));
}

}  // namespace
}  // namespace rpc_pipeline
