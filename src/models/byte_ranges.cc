#include "models/byte_ranges.h"

#include <algorithm>
#include <iterator>

namespace yoke::models {

void ByteRanges::add(std::uint64_t first, std::uint64_t count) {
  if (count == 0) return;
  std::uint64_t end = first + count;
  auto next = ranges_.upper_bound(first);
  if (next != ranges_.begin() && std::prev(next)->second >= first) --next;
  while (next != ranges_.end() && next->first <= end) {
    first = std::min(first, next->first);
    end = std::max(end, next->second);
    count_ -= next->second - next->first;
    next = ranges_.erase(next);
  }
  ranges_.emplace(first, end);
  count_ += end - first;
}

std::optional<ByteRange> ByteRanges::gap(std::uint64_t from, std::uint64_t end) const {
  auto next = ranges_.upper_bound(from);
  if (next != ranges_.begin()) from = std::max(from, std::prev(next)->second);
  if (from >= end) return std::nullopt;
  const std::uint64_t until = next == ranges_.end() ? end : std::min(end, next->first);
  return ByteRange{from, until - from};
}

}  // namespace yoke::models
