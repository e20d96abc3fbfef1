// FakeRoot: a copy of another machine's files in a temporary directory. For tests only; one thread.
#pragma once

#include <filesystem>
#include <string_view>

#include "hardware/host_files.h"

namespace yoke::hardware {

class FakeRoot {
 public:
  // `tree` is the text of a machine as tests/machines/README.md describes it. A malformed one
  // throws std::runtime_error, as do all functions here that can't do what they should.
  explicit FakeRoot(std::string_view tree);
  FakeRoot();
  // tests/machines/NAME.tree.
  static FakeRoot machine(std::string_view name);

  FakeRoot(FakeRoot&& other) noexcept;
  FakeRoot& operator=(FakeRoot&&) = delete;
  ~FakeRoot();

  // Paths are absolute and count from the root. Directories are made as they are needed; a path
  // that leads out of the root through a link is refused.
  void write(std::string_view path, std::string_view content);
  void link(std::string_view path, std::string_view target);
  void make_directory(std::string_view path);
  void remove(std::string_view path);  // With all below it; a link, not what it points to.

  HostFiles files() const;
  const std::filesystem::path& path() const { return path_; }
  // Where `path` lies in the real file system.
  std::filesystem::path at(std::string_view path) const;

 private:
  std::filesystem::path ready(std::string_view path) const;
  void unpack(std::string_view tree);

  std::filesystem::path path_;
};

}  // namespace yoke::hardware
