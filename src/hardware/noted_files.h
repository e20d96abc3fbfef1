// NotedFiles: reads a machine's files for a detector that goes on without what it can't read. What
// is missing is silently absent; what is there and can't be read or understood leaves a note.
// Refers to the notes it was given and must not outlive them. One thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hardware/host_files.h"

namespace yoke::hardware {

class NotedFiles {
 public:
  NotedFiles(const HostFiles& files, std::vector<std::string>& notes)
      : files_(&files), notes_(&notes) {}

  std::optional<std::string> read(std::string_view path, std::size_t limit = 64u << 10) const;
  std::optional<std::string> line(std::string_view path) const;
  std::optional<std::uint64_t> number(std::string_view path) const;
  // A number of bytes; above 1 PiB it is taken for nonsense.
  std::optional<std::uint64_t> size(std::string_view path) const;
  std::optional<std::string> link_name(std::string_view path) const;
  std::vector<std::string> list(std::string_view path) const;
  bool exists(std::string_view path) const { return files_->exists(path); }

  // For what not everybody may read: nothing without a note.
  std::optional<std::string> read_if_allowed(std::string_view path, std::size_t limit) const;

  // Kept up to a number that a report can still show.
  void note(std::string text) const;

 private:
  template <class T>
  std::optional<T> noted(Result<T> result) const;

  const HostFiles* files_;
  std::vector<std::string>* notes_;
};

inline constexpr std::uint64_t kLargestSize = std::uint64_t{1} << 50;

}  // namespace yoke::hardware
