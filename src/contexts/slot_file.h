// The file that llama-server writes for a slot: which tokens it holds stands in its header.
// Reads files; any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "base/result.h"

namespace yoke::contexts {

struct SlotFile {
  std::uint64_t bytes = 0;
  std::int64_t modified_ns = 0;      // Since the epoch.
  std::vector<std::int32_t> tokens;  // Up to the first that is not text.
};

// kIo if it is not there, no regular file or of another format.
Result<SlotFile> read_slot_file(const std::filesystem::path& path);

// How many tokens both begin with.
std::size_t common_beginning(const std::vector<std::int32_t>& a,
                             const std::vector<std::int32_t>& b);

}  // namespace yoke::contexts
