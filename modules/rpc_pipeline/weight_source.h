// Where a tensor's data lies in a file. Values, which any thread may use; the file is closed with
// its last range.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace rpc_pipeline {

/// A model file, opened for reading. `size` and `changed_ns` are those of the time it was opened.
struct WeightFile {
  WeightFile(int handle, std::string name, std::uint64_t bytes, std::int64_t changed);
  ~WeightFile();
  WeightFile(const WeightFile&) = delete;
  WeightFile& operator=(const WeightFile&) = delete;

  /// Nothing if there is no such regular file, or it can't be read.
  static std::shared_ptr<const WeightFile> open(const std::string& path);

  /// True while the file has the size and the time of change that it was opened with.
  bool unchanged() const;

  const int fd;
  const std::string path;
  const std::uint64_t size;
  /// The inode's change time in nanoseconds. Unlike the time of modification it can't be set back:
  /// unpacking, copying and image builds often give two versions of a file the same one.
  const std::int64_t changed_ns;
};

struct FileRange {
  std::shared_ptr<const WeightFile> file;
  std::uint64_t offset = 0;  ///< Bytes from the file's begin.
  std::uint64_t size = 0;
};

}  // namespace rpc_pipeline
