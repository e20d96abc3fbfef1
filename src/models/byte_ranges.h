// ByteRanges: a set of bytes of a file, as ranges that don't touch. A value; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "models/http_client.h"

namespace yoke::models {

class ByteRanges {
 public:
  void add(std::uint64_t first, std::uint64_t count);
  // Bytes in all.
  std::uint64_t count() const { return count_; }
  // The first range from `from` on, and below `end`, of what is not in it.
  std::optional<ByteRange> gap(std::uint64_t from, std::uint64_t end) const;
  // First byte of each range, and the one behind it.
  const std::map<std::uint64_t, std::uint64_t>& ranges() const { return ranges_; }

 private:
  std::map<std::uint64_t, std::uint64_t> ranges_;
  std::uint64_t count_ = 0;
};

}  // namespace yoke::models
