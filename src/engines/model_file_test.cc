#include "engines/model_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engines/test_support.h"

namespace yoke::engines {
namespace {

using namespace std::string_literals;
using testing::HasSubstr;

std::string gguf(std::uint32_t version, std::size_t bytes = 64) {
  std::string file = "GGUF";
  for (int shift = 0; shift < 32; shift += 8) file += static_cast<char>(version >> shift & 0xff);
  file.resize(bytes, '\0');
  return file;
}

TEST(CheckModelFile, TakesGgufOfVersion2And3) {
  const ScratchDir dir;
  EXPECT_TRUE(check_model_file(dir.write("2.gguf", gguf(2))));
  EXPECT_TRUE(check_model_file(dir.write("3.gguf", gguf(3, 24))));
}

struct Bad {
  std::string content;
  std::string said;
};

void PrintTo(const Bad& bad, std::ostream* out) { *out << bad.said; }

class BadModelFile : public testing::TestWithParam<Bad> {};

TEST_P(BadModelFile, IsNamedForWhatItIs) {
  const ScratchDir dir;
  const auto checked = check_model_file(dir.write("model.gguf", GetParam().content));
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code, kModelFileInvalid);
  EXPECT_THAT(checked.error().message, HasSubstr("model.gguf " + GetParam().said));
  EXPECT_NE(checked.error().hint, "");
}

INSTANTIATE_TEST_SUITE_P(
    All, BadModelFile,
    testing::Values(
        Bad{"", "is empty"}, Bad{"GGUF", "is incomplete"}, Bad{"GG", "is incomplete"},
        Bad{gguf(3, 23), "is incomplete"}, Bad{gguf(1), "is a GGUF file of version 1, which"},
        Bad{gguf(0), "is a GGUF file of version 0, which"},
        Bad{gguf(4), "is a GGUF file of version 4, newer"},
        Bad{"GGUF\0\0\0\3"s + std::string(16, '\0'), "is a GGUF file for big-endian machines"},
        Bad{"FUGG\0\0\0\3"s, "is a GGUF file with its bytes swapped"},
        Bad{"\x89PNG\r\n\x1a\n\0\0"s, "is a PNG image"},
        Bad{"\xff\xd8\xff\xe0"s, "is a JPEG image"}, Bad{"%PDF-1.7"s, "is a PDF document"},
        Bad{"\x7f"
            "ELF\2"s,
            "is a program"},
        Bad{"PK\x03\x04"s, "is a ZIP archive or a PyTorch checkpoint"},
        Bad{"\x1f\x8b\x08"s, "is a gzip archive"},
        Bad{"tjgg\3\0\0\0"s, "is a model in the old GGML"},
        Bad{"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"},
        Bad{"\x40\0\0\0\0\0\0\0{\"__metadata__\":{}}"s, "is a safetensors file"},
        Bad{"<!DOCTYPE html>\n<html>", "is a web page"},
        Bad{"\xef\xbb\xbf\n <html lang=\"en\">", "is a web page"},
        Bad{"Not found", "is a text file"},
        Bad{std::string(64, '\0'), "does not begin as a GGUF"}));

TEST(CheckModelFile, SaysThatAFileIsMissing) {
  const ScratchDir dir;
  const auto checked = check_model_file(dir.path() / "none.gguf");
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code, kModelFileMissing);
  EXPECT_THAT(checked.error().text(), HasSubstr("none.gguf"));
  EXPECT_EQ(check_model_file(dir.write("file", "x") / "below").error().code, kModelFileMissing);
}

TEST(CheckModelFile, RefusesWhatIsNoRegularFile) {
  const ScratchDir dir;
  EXPECT_THAT(check_model_file(dir.path()).error().message, HasSubstr("is a directory"));
  const auto pipe = dir.path() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(check_model_file(pipe).error().message, HasSubstr("is no regular file"));
}

TEST(CheckModelFile, SaysThatAFileIsNotReadable) {
  const ScratchDir dir;
  const auto file = dir.write("m.gguf", gguf(3), 0000);
  EXPECT_TRUE(true_without_capabilities([&] {
    const auto checked = check_model_file(file);
    return !checked && checked.error().code == kIo &&
           checked.error().message.find("Permission denied") != std::string::npos;
  }));
}

TEST(ModelFileBytes, CountsAllPartsOfASplitModel) {
  const ScratchDir dir;
  EXPECT_EQ(model_file_bytes(dir.write("whole.gguf", std::string(10, 'x'))), 10u);
  const auto first = dir.write("m-00001-of-00003.gguf", std::string(1, 'x'));
  dir.write("m-00002-of-00003.gguf", std::string(2, 'x'));
  dir.write("m-00003-of-00003.gguf", std::string(4, 'x'));
  EXPECT_EQ(model_file_bytes(first), 7u);
  EXPECT_EQ(model_file_bytes(dir.path() / "none.gguf"), 0u);
  EXPECT_EQ(model_file_bytes(dir.path() / "n-00001-of-99999.gguf"), 0u);
  EXPECT_EQ(model_file_bytes(dir.write("m-00001-of-x.gguf", "abc")), 3u);
}

TEST(CheckModelDirectory, WantsAConfigurationAndWeights) {
  const ScratchDir dir;
  const auto missing = check_model_directory(dir.path() / "none");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, kModelFileMissing);
  const auto empty = check_model_directory(dir.path());
  ASSERT_FALSE(empty);
  EXPECT_EQ(empty.error().code, kModelFileInvalid);
  EXPECT_THAT(empty.error().message, HasSubstr("config.json"));
  const auto file = check_model_directory(dir.write("config.json", "{}"));
  ASSERT_FALSE(file);
  EXPECT_THAT(file.error().message, HasSubstr("no directory"));
  dir.write("model.safetensors", "");
  const auto hollow = check_model_directory(dir.path());
  ASSERT_FALSE(hollow);
  EXPECT_THAT(hollow.error().message, HasSubstr("weights"));
  dir.write("model.safetensors", "x");
  EXPECT_TRUE(check_model_directory(dir.path()));
}

}  // namespace
}  // namespace yoke::engines
