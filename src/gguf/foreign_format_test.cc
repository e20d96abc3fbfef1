#include "gguf/foreign_format.h"

#include <gtest/gtest.h>

#include "gguf/test_support.h"

namespace yoke::gguf {
namespace {

using namespace std::string_literals;

struct Case {
  std::string head;
  std::string what;
};

void PrintTo(const Case& one, std::ostream* out) { *out << one.what; }

class Foreign : public testing::TestWithParam<Case> {};

TEST_P(Foreign, IsNamedForWhatItIs) {
  const ForeignFormat format = foreign_format(GetParam().head);
  EXPECT_EQ(format.what, GetParam().what);
  EXPECT_NE(format.hint, "");
  EXPECT_EQ(format.cut, format.what.starts_with("is incomplete"));
}

std::string version(std::uint32_t number) { return "GGUF" + raw(number) + std::string(16, '\0'); }

INSTANTIATE_TEST_SUITE_P(
    All, Foreign,
    testing::Values(Case{"", "is empty"}, Case{"GG", "is incomplete: it ends within the header"},
                    Case{version(3).substr(0, 23), "is incomplete: it ends within the header"},
                    Case{version(0), "is a GGUF file of version 0, which is no longer read"},
                    Case{version(1), "is a GGUF file of version 1, which is no longer read"},
                    Case{version(4), "is a GGUF file of version 4, newer than Yoke knows"},
                    Case{version(3u << 24), "is a GGUF file for big-endian machines"},
                    Case{"FUGG\0\0\0\3"s, "is a GGUF file with its bytes swapped"},
                    Case{"tjgg\3\0\0\0"s, "is a model in the old GGML format"},
                    Case{"\x89PNG\r\n\x1a\n\0\0"s, "is a PNG image"},
                    Case{"\xff\xd8\xff\xe0"s, "is a JPEG image"}, Case{"GIF89a", "is a GIF image"},
                    Case{"%PDF-1.7", "is a PDF document"}, Case{"\x7f\x45LF\2"s, "is a program"},
                    Case{"SQLite format 3\0\x10"s, "is an SQLite database"},
                    Case{"PK\x03\x04"s, "is a ZIP archive or a PyTorch checkpoint"},
                    Case{"\x80\x02\x8a"s, "is a PyTorch checkpoint"},
                    Case{"\x89HDF\r\n\x1a"s, "is an HDF5 file"},
                    Case{"\x1f\x8b\x08"s, "is a gzip archive"},
                    Case{"\x28\xb5\x2f\xfd\x04"s, "is a Zstandard archive"},
                    Case{"\xfd\x37zXZ\0"s, "is an XZ archive"},
                    Case{"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
                         "is a Git LFS pointer, not the file itself"},
                    Case{"\x40\0\0\0\0\0\0\0{\"__metadata__\":{}}"s, "is a safetensors file"},
                    Case{"\xef\xbb\xbf\n <HTML lang=\"en\">", "is a web page"},
                    Case{"<!DOCTYPE html>\n<html>", "is a web page"},
                    Case{"Not found", "is a text file"},
                    Case{std::string(64, '\0'), "does not begin as a GGUF file does"}));

TEST(ForeignFormat, SaysNothingOfGguf) {
  EXPECT_EQ(foreign_format(version(2)).what, "");
  EXPECT_EQ(foreign_format(version(3)).what, "");
}

}  // namespace
}  // namespace yoke::gguf
