#include "engines/model_file.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <system_error>

#include <fmt/format.h>

#include "base/unique_fd.h"

namespace yoke::engines {
namespace {

namespace fs = std::filesystem;
using namespace std::string_view_literals;

constexpr std::string_view kGgufMagic = "GGUF";
constexpr std::size_t kGgufHeaderBytes = 24;  // Magic, version, tensor count, key count.
constexpr std::uint32_t kOldestVersion = 2;
constexpr std::uint32_t kNewestVersion = 3;
constexpr std::size_t kPeekBytes = 512;

constexpr std::string_view kConvertHint =
    "llama.cpp loads GGUF files: get a GGUF version of this model or convert it.";
constexpr std::string_view kDownloadHint = "Download it again, from a direct link to the file.";
constexpr std::string_view kPathHint = "Check model_path.";

struct Magic {
  std::string_view bytes;
  std::string_view what;
  std::string_view hint;
};

constexpr std::array<Magic, 15> kMagics{{
    {"version https://git-lfs"sv, "a Git LFS pointer, not the file itself",
     "Run `git lfs pull` where it came from, or download the file from its page."},
    {"\x89PNG\r\n\x1a\n"sv, "a PNG image", kPathHint},
    {"\xff\xd8\xff"sv, "a JPEG image", kPathHint},
    {"GIF8"sv, "a GIF image", kPathHint},
    {"%PDF-"sv, "a PDF document", kPathHint},
    {"\x7f"
     "ELF"sv,
     "a program", kPathHint},
    {"PK\x03\x04"sv, "a ZIP archive or a PyTorch checkpoint", kConvertHint},
    {"\x1f\x8b"sv, "a gzip archive", "Unpack it first."},
    {"\x28\xb5\x2f\xfd"sv, "a Zstandard archive", "Unpack it first."},
    {"\x80\x02"sv, "a PyTorch checkpoint", kConvertHint},
    {"\x89HDF\r\n"sv, "an HDF5 file", kConvertHint},
    {"tjgg"sv, "a model in the old GGML format", kConvertHint},
    {"lmgg"sv, "a model in the old GGML format", kConvertHint},
    {"fmgg"sv, "a model in the old GGML format", kConvertHint},
    {"FUGG"sv, "a GGUF file with its bytes swapped", kDownloadHint},
}};

std::uint32_t little_endian_32(std::string_view bytes) {
  std::uint32_t value = 0;
  for (int i = 3; i >= 0; --i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

// Eight bytes with the length of a JSON object, then the object.
bool is_safetensors(std::string_view head) { return head.size() > 9 && head.substr(8, 2) == "{\""; }

bool is_html(std::string_view head) {
  const std::size_t start = head.find_first_not_of(" \t\r\n\xef\xbb\xbf");
  if (start == std::string_view::npos) return false;
  std::string begin(head.substr(start, 14));
  std::transform(begin.begin(), begin.end(), begin.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return begin.starts_with("<!doctype html") || begin.starts_with("<html");
}

bool is_text(std::string_view head) {
  return std::all_of(head.begin(), head.end(), [](unsigned char c) {
    return c >= 0x20 ? c != 0x7f : c == '\t' || c == '\r' || c == '\n';
  });
}

tl::unexpected<Error> invalid(const fs::path& path, std::string_view what, std::string_view hint) {
  return fail(kModelFileInvalid, fmt::format("{} {}.", path.string(), what), std::string(hint));
}

Result<void> check_gguf_header(const fs::path& path, std::string_view head) {
  if (head.size() < kGgufHeaderBytes) {
    return invalid(path, "is incomplete: it ends within its header", kDownloadHint);
  }
  const std::uint32_t version = little_endian_32(head.substr(kGgufMagic.size()));
  if (version >= kOldestVersion && version <= kNewestVersion) return {};
  if ((version & 0xffff) == 0 && version != 0) {
    return invalid(path, "is a GGUF file for big-endian machines",
                   "Get the little-endian version of this model.");
  }
  if (version < kOldestVersion) {
    return invalid(path, fmt::format("is of GGUF version {}, which is no longer read", version),
                   "Get a newer conversion of this model.");
  }
  return invalid(path, fmt::format("is of GGUF version {}, newer than Yoke knows", version),
                 "Update Yoke, or get a conversion of version 3.");
}

Result<void> check_head(const fs::path& path, std::string_view head) {
  if (head.starts_with(kGgufMagic)) return check_gguf_header(path, head);
  for (const Magic& magic : kMagics) {
    if (head.starts_with(magic.bytes)) {
      return invalid(path, fmt::format("is {}", magic.what), magic.hint);
    }
  }
  if (is_html(head)) return invalid(path, "is a web page, not a model", kDownloadHint);
  if (is_safetensors(head)) return invalid(path, "is a safetensors file", kConvertHint);
  if (kGgufMagic.starts_with(head)) {
    return invalid(path, "is incomplete: it ends within its header", kDownloadHint);
  }
  if (is_text(head)) return invalid(path, "is a text file, not a GGUF model", kPathHint);
  return invalid(path, "is no GGUF model: it does not begin with 'GGUF'", kConvertHint);
}

Result<std::string> read_head(const fs::path& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  std::string head(kPeekBytes, '\0');
  const ssize_t count = file ? ::read(file.get(), head.data(), head.size()) : -1;
  if (count < 0) {
    return fail(kIo, fmt::format("{} can't be read: {}.", path.string(), std::strerror(errno)),
                "Check the owner and permissions of the file and its directories.");
  }
  head.resize(static_cast<std::size_t>(count));
  return head;
}

Result<struct stat> look_at(const fs::path& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) == 0) return info;
  if (errno == ENOENT || errno == ENOTDIR) {
    return fail(kModelFileMissing, fmt::format("There is no model file {}.", path.string()),
                "Put the file there or change model_path.");
  }
  return fail(kIo, fmt::format("{} can't be read: {}.", path.string(), std::strerror(errno)),
              "Check the owner and permissions of the file and its directories.");
}

std::uint64_t size_or_zero(const fs::path& path) {
  std::error_code error;
  const std::uintmax_t size = fs::file_size(path, error);
  return error ? 0 : size;
}

bool has_weights(const fs::path& directory) {
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    const fs::path type = it->path().extension();
    if ((type == ".safetensors" || type == ".bin") && size_or_zero(it->path()) > 0) return true;
  }
  return false;
}

// "model-00001-of-00003.gguf" is 3 parts that begin with "model-".
struct SplitName {
  std::string prefix;
  int parts;
};

std::optional<SplitName> split_name_of_first_part(const std::string& name) {
  constexpr std::string_view kFirst = "-00001-of-";
  const std::size_t mark = name.rfind(kFirst);
  if (mark == std::string::npos || !name.ends_with(".gguf")) return std::nullopt;
  const std::size_t digits = mark + kFirst.size();
  const char* const end = name.data() + name.size() - std::strlen(".gguf");
  int parts = 0;
  const auto [stop, error] = std::from_chars(name.data() + digits, end, parts);
  if (error != std::errc() || stop != end || parts < 1 || parts > 99999) return std::nullopt;
  return SplitName{name.substr(0, mark + 1), parts};
}

}  // namespace

Result<void> check_model_file(const fs::path& path) {
  YOKE_TRY(const struct stat info, look_at(path));
  if (S_ISDIR(info.st_mode)) {
    return invalid(path, "is a directory", "Name the GGUF file in it.");
  }
  if (!S_ISREG(info.st_mode)) return invalid(path, "is no regular file", kPathHint);
  if (info.st_size == 0) return invalid(path, "is empty", kDownloadHint);
  const Result<std::string> head = read_head(path);
  if (!head) return fail(head.error());
  return check_head(path, *head);
}

Result<void> check_model_directory(const fs::path& path) {
  YOKE_TRY(const struct stat info, look_at(path));
  if (!S_ISDIR(info.st_mode)) return invalid(path, "is no directory", kPathHint);
  std::error_code error;
  if (!fs::is_regular_file(path / "config.json", error)) {
    return invalid(path, "is no HuggingFace model: it has no config.json",
                   "Name the model's directory, or the file if it is a GGUF model.");
  }
  if (!has_weights(path)) {
    return invalid(path, "has no weights: no file in it ends in .safetensors or .bin",
                   "Download the model again, with all of its files.");
  }
  return {};
}

std::uint64_t model_file_bytes(const fs::path& path) {
  const std::optional<SplitName> split = split_name_of_first_part(path.filename().string());
  if (!split) return size_or_zero(path);
  std::uint64_t total = 0;
  for (int part = 1; part <= split->parts; ++part) {
    const std::uint64_t size =
        size_or_zero(path.parent_path() /
                     fmt::format("{}{:05}-of-{:05}.gguf", split->prefix, part, split->parts));
    if (size == 0 && part == 1) break;
    total += size;
  }
  return total;
}

}  // namespace yoke::engines
