#include "models/digest.h"

#include <cstdio>
#include <memory>

#include <gtest/gtest.h>

namespace yoke::models {
namespace {

using Kind = Checksum::Kind;

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

File file_of(const std::string& content) {
  File file(std::tmpfile());
  std::fwrite(content.data(), 1, content.size(), file.get());
  std::fflush(file.get());
  return file;
}

Result<std::string> checksum(const std::string& content, Kind kind) {
  const File file = file_of(content);
  return checksum_of(::fileno(file.get()), content.size(), kind, {});
}

TEST(Digest, KnownSums) {
  EXPECT_EQ(*checksum("abc", Kind::kSha256),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(*checksum("", Kind::kSha256),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  // As `git hash-object` says.
  EXPECT_EQ(*checksum("hello\n", Kind::kGitBlob), "ce013625030ba8dba906f756967f9e9ca394464a");
  EXPECT_EQ(*checksum("hello\n", Kind::kNone), "");
}

TEST(Digest, OfMoreThanOneStep) {
  EXPECT_EQ(*checksum(std::string(3'000'000, 'a'), Kind::kSha256), [] {
    Digest digest(Digest::Kind::kSha256);
    for (int i = 0; i < 3000; ++i) digest.add(std::string(1000, 'a'));
    return digest.finish();
  }());
}

TEST(Digest, CanBeEnded) {
  const File file = file_of(std::string(3'000'000, 'a'));
  const auto ended = checksum_of(::fileno(file.get()), 3'000'000, Kind::kSha256,
                                 [](std::uint64_t read) { return read < 2'000'000; });
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code, kCancelled);
}

TEST(Digest, AFileThatIsShorter) {
  const File file = file_of("abc");
  const auto sum = checksum_of(::fileno(file.get()), 4, Kind::kSha256, {});
  ASSERT_FALSE(sum);
  EXPECT_EQ(sum.error().code, kIo);
}

}  // namespace
}  // namespace yoke::models
