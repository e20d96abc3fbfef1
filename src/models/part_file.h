// PartFile: a download that is not complete, X.part, and beside it X.part.json, which says what of
// it is on the disk for certain. Owned by a download; one thread at a time. Whatever ends the
// program, the two agree: what the second says was made durable first.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "models/byte_ranges.h"

namespace yoke::models {

// What is being got. Two downloads of the same identity have the same bytes.
struct Identity {
  std::uint64_t bytes = 0;
  std::string mark;  // "sha256:…", "git:…", "etag:…"; empty: nothing can be told from it.
  friend bool operator==(const Identity&, const Identity&) = default;
};

class PartFile {
 public:
  // Goes on with what is there if it is of `identity`; `changed` says that there was something
  // else, which is gone. Takes the space on the disk at once, where the file system can. kDiskFull,
  // kIo.
  static Result<PartFile> open(const std::filesystem::path& final_path, const Identity& identity);
  PartFile(PartFile&&) = default;
  PartFile& operator=(PartFile&&) = default;

  static std::filesystem::path part_path(const std::filesystem::path& final_path);
  static std::filesystem::path state_path(const std::filesystem::path& final_path);
  // Bytes of the disk that the part of a file takes by now.
  static std::uint64_t space_taken(const std::filesystem::path& final_path);
  // Those of them that are right for certain; none if there is no part.
  static std::optional<std::uint64_t> durable(const std::filesystem::path& final_path);
  static void remove(const std::filesystem::path& final_path);

  const ByteRanges& done() const { return done_; }
  bool changed() const { return changed_; }
  bool resumed() const { return resumed_; }
  int fd() const { return fd_.get(); }

  // kDiskFull, kIo.
  Result<void> write(std::uint64_t offset, std::string_view bytes);
  // Makes durable what was written, and says so in the state file. kDiskFull, kIo.
  Result<void> save();
  // From the front again.
  Result<void> restart();
  // Becomes the file; durable. kDiskFull, kIo.
  Result<void> finish();

 private:
  PartFile(std::filesystem::path path, Identity identity, UniqueFd fd)
      : path_(std::move(path)), identity_(std::move(identity)), fd_(std::move(fd)) {}
  Result<void> take_space() const;
  Result<void> write_state() const;

  std::filesystem::path path_;
  Identity identity_;
  UniqueFd fd_;
  ByteRanges done_;
  bool changed_ = false;
  bool resumed_ = false;
};

// "No space is left…" or kIo, by errno.
Error write_error(const std::filesystem::path& path, int error);

}  // namespace yoke::models
