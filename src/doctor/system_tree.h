// SystemTree: writing small files below a directory that stands for "/". Below any other directory
// than the real one no symbolic link is followed, so that nothing outside is ever written.
// Blocks; one thread at a time.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace yoke::doctor {

class SystemTree {
 public:
  struct File {
    std::string content;
    mode_t mode = 0644;
    uid_t uid = 0;
    gid_t gid = 0;
    friend bool operator==(const File&, const File&) = default;
  };

  static Result<SystemTree> open(const std::filesystem::path& root);

  // Paths are absolute and count from the root; kIo with the system's reason from all of these.

  // Nothing if there is no such file; an error for anything else than a regular file of at most
  // 4 MiB.
  Result<std::optional<File>> read(std::string_view path) const;

  // Replaces the file in one step: whoever reads it, and whatever happens to the machine, it is the
  // old one or the new one. Makes directories (0755). The owner is set where that is allowed.
  Result<void> write(std::string_view path, const File& file) const;

  // Neither is an error if there is nothing to remove; a directory that is not empty stays.
  Result<void> remove(std::string_view path) const;
  Result<void> remove_empty_directory(std::string_view path) const;

  // What write() puts beside a file until it is complete; a crash may leave it.
  static std::string unfinished(std::string_view path);

  // The directories that write() would make for this file, outermost first.
  Result<std::vector<std::string>> missing_directories(std::string_view path) const;

  // Keeps everyone else who asks for it out for as long as the descriptor lives; makes the
  // directory. kIo at once if it is taken.
  Result<UniqueFd> lock(std::string_view directory) const;

 private:
  SystemTree(UniqueFd root, bool real) : root_(std::move(root)), real_(real) {}
  // No descriptor if it does not exist and is not to be made.
  Result<UniqueFd> open_directory(std::string_view path, bool make) const;

  UniqueFd root_;
  bool real_;
};

}  // namespace yoke::doctor
