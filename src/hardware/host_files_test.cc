#include "hardware/host_files.h"

#include <chrono>
#include <fcntl.h>
#include <fstream>
#include <sys/stat.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hardware/open_in_root.h"
#include "hardware/test_support.h"

namespace yoke::hardware {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

ErrorCode code_of(const Result<std::string>& result) {
  return result ? kInternal : result.error().code;
}

TEST(HostFiles, ReadsAFileOfTheRootAsItIs) {
  FakeRoot root;
  root.write("/proc/meminfo", " MemTotal: 1 kB\n\n");
  EXPECT_EQ(root.files().read("/proc/meminfo").value(), " MemTotal: 1 kB\n\n");
  EXPECT_FALSE(root.files().is_this_machine());
}

TEST(HostFiles, TellsMissingFromUnreadable) {
  FakeRoot root;
  root.make_directory("/sys/class");
  root.link("/gone", "nowhere");
  const HostFiles files = root.files();
  EXPECT_EQ(code_of(files.read("/none")), kHostFileMissing);
  EXPECT_EQ(code_of(files.read("/gone")), kHostFileMissing);
  EXPECT_EQ(code_of(files.read("/sys/class")), kHostFileUnreadable);
  EXPECT_EQ(code_of(files.read("sys/class")), kHostFileUnreadable);
  EXPECT_EQ(code_of(files.read("")), kHostFileUnreadable);
  EXPECT_EQ(code_of(files.read(std::string_view("/sys\0/x", 7))), kHostFileUnreadable);
}

TEST(HostFiles, RefusesAFifoAtOnce) {
  FakeRoot root;
  ASSERT_EQ(::mkfifo(root.at("/fifo").c_str(), 0600), 0);
  const auto begin = std::chrono::steady_clock::now();
  const auto result = root.files().read("/fifo");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(1));
  EXPECT_EQ(code_of(result), kHostFileUnreadable);
  EXPECT_THAT(result.error().message, HasSubstr("no regular file"));
}

TEST(HostFiles, ReadsUpToTheLimitAndRefusesMore) {
  FakeRoot root;
  root.write("/ten", "0123456789");
  EXPECT_EQ(root.files().read("/ten", 10).value(), "0123456789");
  const auto result = root.files().read("/ten", 9);
  EXPECT_EQ(code_of(result), kHostFileUnreadable);
  EXPECT_THAT(result.error().message, HasSubstr("larger than 9 B"));
}

TEST(HostFiles, RefusesALargeSparseFileWithoutReadingIt) {
  FakeRoot root;
  root.write("/huge", "");
  std::filesystem::resize_file(root.at("/huge"), std::uintmax_t{1} << 40);
  EXPECT_EQ(code_of(root.files().read("/huge")), kHostFileUnreadable);
}

TEST(HostFiles, KeepsLinksInsideTheRoot) {
  FakeRoot outside;
  outside.write("/secret", "outside");
  FakeRoot root;
  root.write("/etc/os-release", "inside");
  root.link("/absolute", "/etc/os-release");
  root.link("/above", "../../../../../../etc/os-release");
  root.link("/escape", (outside.path() / "secret").string());
  const HostFiles files = root.files();
  EXPECT_EQ(files.read("/absolute").value(), "inside");
  EXPECT_EQ(files.read("/above").value(), "inside");
  EXPECT_EQ(files.read("/../../etc/os-release").value(), "inside");
  EXPECT_EQ(code_of(files.read("/escape")), kHostFileMissing);
}

TEST(HostFiles, RefusesALoopOfLinks) {
  FakeRoot root;
  root.link("/a", "b");
  root.link("/b", "a");
  EXPECT_EQ(code_of(root.files().read("/a")), kHostFileUnreadable);
  EXPECT_EQ(root.files().list("/a").error().code, kHostFileUnreadable);
  EXPECT_FALSE(root.files().exists("/a/x"));
}

TEST(HostFiles, ReadsALineAndANumber) {
  FakeRoot root;
  root.write("/line", "  first word \nsecond\n");
  root.write("/empty", "");
  root.write("/decimal", " 536870912\n");
  root.write("/hex", "0x1002\n");
  const HostFiles files = root.files();
  EXPECT_EQ(files.read_line("/line").value(), "first word");
  EXPECT_EQ(files.read_line("/empty").value(), "");
  EXPECT_EQ(files.read_number("/decimal").value(), 536870912u);
  EXPECT_EQ(files.read_number("/hex").value(), 0x1002u);
  EXPECT_EQ(files.read_number("/none").error().code, kHostFileMissing);
}

class NoNumber : public testing::TestWithParam<std::string> {};

TEST_P(NoNumber, IsUnreadable) {
  FakeRoot root;
  root.write("/number", GetParam());
  const auto number = root.files().read_number("/number");
  ASSERT_FALSE(number.has_value()) << *number;
  EXPECT_EQ(number.error().code, kHostFileUnreadable);
}

INSTANTIATE_TEST_SUITE_P(HostFiles, NoNumber,
                         testing::Values("", "\n", "-1", "+1", "1.5", "12 34", "12x", "0x", "0xg",
                                         "18446744073709551616", "1\n2\n",
                                         std::string("\0\xff\x01", 3)));

TEST(HostFiles, ListsADirectorySorted) {
  FakeRoot root;
  for (const char* name : {"card1", "renderD128", "card0", ".hidden"}) {
    root.write(std::string("/drm/") + name, "");
  }
  EXPECT_THAT(root.files().list("/drm").value(),
              ElementsAre(".hidden", "card0", "card1", "renderD128"));
  EXPECT_EQ(root.files().list("/none").error().code, kHostFileMissing);
  EXPECT_EQ(root.files().list("/drm/card0").error().code, kHostFileUnreadable);
}

TEST(HostFiles, RefusesADirectoryWithTooManyNames) {
  FakeRoot root;
  root.make_directory("/many");
  for (int i = 0; i < 4096; ++i) std::ofstream(root.at("/many/" + std::to_string(i))).close();
  EXPECT_EQ(root.files().list("/many").value().size(), 4096u);
  root.write("/many/last", "");
  EXPECT_EQ(root.files().list("/many").error().code, kHostFileUnreadable);
}

TEST(HostFiles, NamesWhatALinkPointsTo) {
  FakeRoot root;
  root.link("/driver", "../../../bus/pci/drivers/amdgpu");
  root.link("/slash", "../0000:c5:00.0/");
  root.write("/file", "");
  const HostFiles files = root.files();
  EXPECT_EQ(files.link_name("/driver").value(), "amdgpu");
  EXPECT_EQ(files.link_name("/slash").value(), "0000:c5:00.0");
  EXPECT_EQ(code_of(files.link_name("/file")), kHostFileUnreadable);
  EXPECT_EQ(code_of(files.link_name("/none")), kHostFileMissing);
}

TEST(HostFiles, TellsWhatAFileIs) {
  FakeRoot root("== node /dev/kfd 0660 0 0\n== dir /dev/dri\n== link /kfd -> /dev/kfd\n");
  const HostFiles files = root.files();
  EXPECT_EQ(files.info("/kfd").value().mode, 0660u);
  EXPECT_FALSE(files.info("/kfd").value().directory);
  EXPECT_TRUE(files.info("/dev/dri").value().directory);
  EXPECT_EQ(files.info("/none").error().code, kHostFileMissing);
  EXPECT_TRUE(files.exists("/kfd"));
}

TEST(HostFiles, ReadsThisMachine) {
  const auto files = HostFiles::open();
  ASSERT_TRUE(files.has_value());
  EXPECT_TRUE(files->is_this_machine());
  EXPECT_THAT(files->read("/proc/self/status").value(), HasSubstr("VmRSS"));
}

TEST(HostFiles, OpensNothingButADirectory) {
  FakeRoot root;
  root.write("/file", "");
  EXPECT_EQ(HostFiles::open(root.at("/file")).error().code, kInvalidArgument);
  EXPECT_EQ(HostFiles::open(root.at("/none")).error().code, kInvalidArgument);
  EXPECT_TRUE(HostFiles::open(root.path() / "..").has_value());
}

// What stands in for openat2() follows no link at all.
TEST(OpenWithoutLinks, OpensPlainPathsAndRefusesTheRest) {
  FakeRoot root;
  root.write("/a/b/file", "x");
  root.link("/a/link", "b");
  root.link("/a/b/last", "file");
  const UniqueFd directory(::open(root.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  const auto opens = [&](const char* path, int flags) {
    errno = 0;
    return static_cast<bool>(open_without_links(directory.get(), path, flags | O_CLOEXEC));
  };
  EXPECT_TRUE(opens("/a/b/file", O_RDONLY));
  EXPECT_TRUE(opens("/a//./b", O_RDONLY | O_DIRECTORY));
  EXPECT_TRUE(opens("/", O_RDONLY | O_DIRECTORY));
  EXPECT_TRUE(opens("/a/b/last", O_PATH | O_NOFOLLOW));
  EXPECT_FALSE(opens("/a/b/last", O_RDONLY));
  EXPECT_EQ(errno, ELOOP);
  EXPECT_FALSE(opens("/a/link/file", O_RDONLY));
  EXPECT_EQ(errno, ELOOP);
  EXPECT_FALSE(opens("/a/../a/b/file", O_RDONLY));
  EXPECT_EQ(errno, ELOOP);
  EXPECT_FALSE(opens("/a/none/file", O_RDONLY));
  EXPECT_EQ(errno, ENOENT);
}

}  // namespace
}  // namespace yoke::hardware
