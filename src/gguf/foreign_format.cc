#include "gguf/foreign_format.h"

#include <algorithm>
#include <array>
#include <cctype>

#include <fmt/format.h>

namespace yoke::gguf {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kMagic = "GGUF";
constexpr std::string_view kConvert =
    "llama.cpp loads GGUF files: get a GGUF version of this model or convert it.";
constexpr std::string_view kDownload = "Download it again, from a direct link to the file.";
constexpr std::string_view kPath = "Correct the path.";
constexpr std::string_view kUnpack = "Unpack it first.";

struct Signature {
  std::string_view bytes;
  std::string_view what;
  std::string_view hint;
};

constexpr std::array<Signature, 17> kSignatures{{
    {"version https://git-lfs"sv, "a Git LFS pointer, not the file itself",
     "Run `git lfs pull` where it came from, or download the file from its page."},
    {"\x89PNG\r\n\x1a\n"sv, "a PNG image", kPath},
    {"\xff\xd8\xff"sv, "a JPEG image", kPath},
    {"GIF8"sv, "a GIF image", kPath},
    {"%PDF-"sv, "a PDF document", kPath},
    {"\x7f\x45LF"sv, "a program", kPath},
    {"SQLite format 3\0"sv, "an SQLite database", kPath},
    {"PK\x03\x04"sv, "a ZIP archive or a PyTorch checkpoint", kConvert},
    {"\x80\x02"sv, "a PyTorch checkpoint", kConvert},
    {"\x89HDF\r\n"sv, "an HDF5 file", kConvert},
    {"\x1f\x8b"sv, "a gzip archive", kUnpack},
    {"\x28\xb5\x2f\xfd"sv, "a Zstandard archive", kUnpack},
    {"\xfd\x37zXZ"sv, "an XZ archive", kUnpack},
    {"tjgg"sv, "a model in the old GGML format", kConvert},
    {"lmgg"sv, "a model in the old GGML format", kConvert},
    {"fmgg"sv, "a model in the old GGML format", kConvert},
    {"FUGG"sv, "a GGUF file with its bytes swapped", kDownload},
}};

ForeignFormat is(std::string_view what, std::string_view hint) {
  return {fmt::format("is {}", what), std::string(hint)};
}

ForeignFormat cut() {
  return {"is incomplete: it ends within the header", std::string(kDownload), true};
}

// Eight bytes with the length of a JSON object, then the object.
bool is_safetensors(std::string_view head) { return head.size() > 9 && head.substr(8, 2) == "{\""; }

bool is_html(std::string_view head) {
  const std::size_t start = head.find_first_not_of(" \t\r\n\xef\xbb\xbf");
  if (start == std::string_view::npos) return false;
  std::string begin(head.substr(start, 14));
  for (char& c : begin) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return begin.starts_with("<!doctype html") || begin.starts_with("<html");
}

bool is_text(std::string_view head) {
  return std::ranges::all_of(head, [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte >= 0x20 ? byte != 0x7f : c == '\t' || c == '\r' || c == '\n';
  });
}

ForeignFormat by_version(std::string_view head) {
  if (head.size() < kFixedHeaderBytes) return cut();
  std::uint32_t version = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    version |= std::uint32_t{static_cast<unsigned char>(head[kMagic.size() + i])} << 8 * i;
  }
  if (version == 2 || version == 3) return {};
  if ((version & 0xffff) == 0 && version != 0) {
    return is("a GGUF file for big-endian machines", "Get the little-endian one of this model.");
  }
  if (version < 2) {
    return is(fmt::format("a GGUF file of version {}, which is no longer read", version),
              "Get a newer conversion of this model.");
  }
  return is(fmt::format("a GGUF file of version {}, newer than Yoke knows", version),
            "Update Yoke, or get a conversion of version 3.");
}

}  // namespace

ForeignFormat foreign_format(std::string_view head) {
  if (head.empty()) return is("empty", kDownload);
  if (head.starts_with(kMagic)) return by_version(head);
  for (const Signature& known : kSignatures) {
    if (head.starts_with(known.bytes)) return is(known.what, known.hint);
  }
  if (is_html(head)) return is("a web page", kDownload);
  if (is_safetensors(head)) return is("a safetensors file", kConvert);
  if (kMagic.starts_with(head)) return cut();
  if (is_text(head)) return is("a text file", kPath);
  return {"does not begin as a GGUF file does", std::string(kConvert)};
}

}  // namespace yoke::gguf
