// FileSource: a model file on disk. Owned by whoever opened it; one thread at a time.
#pragma once

#include <filesystem>

#include "base/unique_fd.h"
#include "gguf/byte_source.h"

namespace yoke::gguf {

inline constexpr ErrorCode kModelFileMissing{"model_file_missing"};

class FileSource final : public ByteSource {
 public:
  // kModelFileMissing; kGgufInvalid if it is no regular file; kIo if it can't be read.
  static Result<FileSource> open(const std::filesystem::path& path);

  Result<std::size_t> read(std::uint64_t offset, std::span<char> into) override;
  std::optional<std::uint64_t> size() const override { return size_; }
  const std::string& name() const override { return name_; }

 private:
  FileSource(UniqueFd file, std::string name, std::uint64_t size)
      : file_(std::move(file)), name_(std::move(name)), size_(size) {}

  UniqueFd file_;
  std::string name_;
  std::uint64_t size_;
};

}  // namespace yoke::gguf
