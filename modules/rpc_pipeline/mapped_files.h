// Finds the file behind an address: llama.cpp hands out weights as pointers into a mapping of the
// model's file, and reading them from the file instead leaves the mapping untouched. Any thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rpc_pipeline/weight_source.h"

namespace rpc_pipeline {

/// A line of /proc/self/maps that maps a file for all to see: the memory is what the file holds.
struct Mapping {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
  std::uint64_t offset = 0;
  std::uint64_t inode = 0;
  std::string path;
};

/// Shared, readable file mappings in the text of /proc/PID/maps (proc(5)), in its order. Passed
/// over are private ones, which the process can have written to, files that were deleted, and lines
/// that are malformed.
std::vector<Mapping> parse_mappings(std::string_view text);

class MappedFiles {
 public:
  /// The file and place behind [data, data + size), if one file mapping (or adjacent ones of the
  /// same file) covers all of it. Files stay open while ranges of them are held. Takes some
  /// tenths of a millisecond: what lies at an address changes, so the mappings are read each time.
  std::optional<FileRange> find(const void* data, std::uint64_t size);

 private:
  std::shared_ptr<const WeightFile> opened(const Mapping& mapping);

  std::mutex mutex_;
  std::map<std::pair<std::string, std::uint64_t>, std::weak_ptr<const WeightFile>> open_;
};

}  // namespace rpc_pipeline
