#include "engines/model_file.h"

#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <system_error>

#include <fmt/format.h>

#include "gguf/header.h"
#include "gguf/model.h"

namespace yoke::engines {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPathHint = "Check model_path.";

tl::unexpected<Error> invalid(const fs::path& path, std::string_view what, std::string_view hint) {
  return fail(kModelFileInvalid, fmt::format("{} {}.", path.string(), what), std::string(hint));
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

}  // namespace

Result<void> check_model_file(const fs::path& path) {
  const auto model = gguf::open_model(path);
  if (model && model->lone_part) {
    return invalid(path, "is a part of a split model, and not the first", "Name the first part.");
  }
  // What goes over Yoke's limits the engine may still take.
  if (model || model.error().code == gguf::kGgufUnsupported) return {};
  Error error = model.error();
  if (error.code == kModelFileMissing) error.hint = "Put the file there or change model_path.";
  const bool bad = error.code == gguf::kGgufInvalid || error.code == gguf::kGgufTruncated;
  if (bad) error.code = kModelFileInvalid;
  return fail(std::move(error));
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
  const auto split = gguf::parse_split_name(path.filename().string());
  if (!split || split->number != 1) return size_or_zero(path);
  std::uint64_t total = 0;
  for (std::uint32_t part = 1; part <= split->count; ++part) {
    const std::uint64_t size = size_or_zero(path.parent_path() / split->of(part));
    if (size == 0 && part == 1) break;
    total += size;
  }
  return total;
}

}  // namespace yoke::engines
