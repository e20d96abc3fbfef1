// Bytes on their way from one worker to another, through the client. They are passed on as they
// come, so the worker that receives them waits no longer than the one that sends takes. Owned by
// the two messages that share it; after both are queued, used by the client's loop only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

namespace rpc_pipeline {

class Connection;

/// Memory for bytes that were received and not yet sent, in blocks that are used again.
class BlockPool {
 public:
  static constexpr std::size_t kBlockSize = std::size_t{256} << 10;
  using Block = std::array<std::byte, kBlockSize>;

  std::unique_ptr<Block> take();
  void give(std::unique_ptr<Block> block);

 private:
  static constexpr std::size_t kKept = 256;  // 64 MiB.
  std::vector<std::unique_ptr<Block>> free_;
};

class Transfer {
 public:
  explicit Transfer(std::uint64_t size) : size_(size) {}

  std::uint64_t size() const { return size_; }

  /// Room for the next bytes, never more than size() in all.
  std::span<std::byte> room(BlockPool& pool);
  void received(std::size_t count);

  /// Bytes that have come and were not sent, as far as they lie together.
  std::span<const std::byte> ready() const;
  void sent(std::size_t count, BlockPool& pool);

  /// Bytes received and not yet sent.
  std::uint64_t held() const { return received_ - sent_; }
  bool all_sent() const { return sent_ == size_; }

  /// Source and destination are one worker, which takes nothing before it has sent all.
  bool within_one = false;
  Connection* source = nullptr;       ///< Reads it; set when its answer begins.
  Connection* destination = nullptr;  ///< Sends it; set when it is the next to be sent.

 private:
  const std::uint64_t size_;
  std::uint64_t received_ = 0;
  std::uint64_t sent_ = 0;
  std::deque<std::unique_ptr<BlockPool::Block>> blocks_;
};

}  // namespace rpc_pipeline
