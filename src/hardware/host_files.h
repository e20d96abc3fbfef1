// HostFiles: the machine's own description of itself (/proc, /sys, /dev, /etc), real or a copy of
// another machine's under a root of its own. Symbolic links never lead out of that root.
// A value that shares its open root; any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

#include "base/result.h"

namespace yoke::hardware {

inline constexpr ErrorCode kHostFileMissing{"host_file_missing"};
inline constexpr ErrorCode kHostFileUnreadable{"host_file_unreadable"};

class HostFiles {
 public:
  // kInvalidArgument if `root` is no directory.
  static Result<HostFiles> open(const std::filesystem::path& root = "/");

  // The content of a regular file; paths are absolute ("/proc/meminfo") and count from the root.
  // kHostFileMissing; kHostFileUnreadable for anything else than a readable regular file of at most
  // `limit` bytes, with the reason. Nothing is ever waited for: a FIFO is refused.
  Result<std::string> read(std::string_view path, std::size_t limit = 64u << 10) const;
  // The first line without the white space around it.
  Result<std::string> read_line(std::string_view path) const;
  // A decimal or 0x number with white space around it; kHostFileUnreadable if it is none.
  Result<std::uint64_t> read_number(std::string_view path) const;

  // The names in a directory, sorted, without "." and ".."; more than 4096 are an error.
  Result<std::vector<std::string>> list(std::string_view path) const;
  // The last component of what a symbolic link points to: a device's driver, its PCI address.
  Result<std::string> link_name(std::string_view path) const;

  struct Info {
    bool directory = false;
    mode_t mode = 0;  // Permission bits.
    uid_t uid = 0;
    gid_t gid = 0;
  };
  Result<Info> info(std::string_view path) const;  // Follows links.
  bool exists(std::string_view path) const;

  const std::filesystem::path& root() const { return root_; }
  bool is_this_machine() const { return root_ == "/"; }

 private:
  struct Root;
  HostFiles(std::filesystem::path root, std::shared_ptr<const Root> open);

  std::filesystem::path root_;
  std::shared_ptr<const Root> open_;
};

}  // namespace yoke::hardware
