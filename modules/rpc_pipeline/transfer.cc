#include "rpc_pipeline/transfer.h"

#include <algorithm>

namespace rpc_pipeline {

std::unique_ptr<BlockPool::Block> BlockPool::take() {
  if (free_.empty()) return std::make_unique_for_overwrite<Block>();
  auto block = std::move(free_.back());
  free_.pop_back();
  return block;
}

void BlockPool::give(std::unique_ptr<Block> block) {
  if (free_.size() < kKept) free_.push_back(std::move(block));
}

std::span<std::byte> Transfer::room(BlockPool& pool) {
  const std::size_t used = received_ % BlockPool::kBlockSize;
  if (used == 0 && received_ < size_) {
    // A block that room() gave before may still be empty.
    const std::uint64_t first = sent_ / BlockPool::kBlockSize;
    if (blocks_.size() == received_ / BlockPool::kBlockSize - first) blocks_.push_back(pool.take());
  }
  if (received_ == size_) return {};
  const auto count = std::min<std::uint64_t>(BlockPool::kBlockSize - used, size_ - received_);
  return std::span(*blocks_.back()).subspan(used, static_cast<std::size_t>(count));
}

void Transfer::received(std::size_t count) { received_ += count; }

std::span<const std::byte> Transfer::ready() const {
  if (held() == 0) return {};
  const std::size_t used = sent_ % BlockPool::kBlockSize;
  const auto count = std::min<std::uint64_t>(BlockPool::kBlockSize - used, held());
  return std::span<const std::byte>(*blocks_.front())
      .subspan(used, static_cast<std::size_t>(count));
}

void Transfer::sent(std::size_t count, BlockPool& pool) {
  sent_ += count;
  const bool block_ends = sent_ % BlockPool::kBlockSize == 0 || sent_ == size_;
  if (!block_ends || blocks_.empty()) return;
  pool.give(std::move(blocks_.front()));
  blocks_.pop_front();
}

}  // namespace rpc_pipeline
