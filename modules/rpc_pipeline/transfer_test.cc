#include "rpc_pipeline/transfer.h"

#include <algorithm>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "rpc_pipeline/file_test_support.h"

namespace rpc_pipeline {
namespace {

constexpr std::size_t kBlock = BlockPool::kBlockSize;

/// Receives up to `most` bytes of `data`, of which `at` have come.
void receive(Transfer& transfer, BlockPool& pool, const std::string& data, std::size_t& at,
             std::size_t most) {
  const auto room = transfer.room(pool);
  const std::size_t count = std::min({room.size(), most, data.size() - at});
  std::ranges::copy(std::as_bytes(std::span(data)).subspan(at, count), room.begin());
  transfer.received(count);
  at += count;
}

void send(Transfer& transfer, BlockPool& pool, std::string& out, std::size_t most) {
  const auto ready = transfer.ready();
  const std::size_t count = std::min(ready.size(), most);
  out.append(reinterpret_cast<const char*>(ready.data()), count);
  if (count > 0) transfer.sent(count, pool);
}

class TransferSizes : public ::testing::TestWithParam<std::size_t> {};

TEST_P(TransferSizes, PassesOnWhatCameAtAnyPace) {
  const std::string data = noise(GetParam());
  for (unsigned run = 0; run < 10; ++run) {
    std::mt19937 random(run);
    BlockPool pool;
    Transfer transfer(data.size());
    std::string out;
    std::size_t at = 0;
    // Some runs receive faster than they send, others slower.
    const std::size_t most_in = run % 3 == 0 ? 3 * kBlock : 1 + random() % kBlock;
    const std::size_t most_out = run % 3 == 1 ? 3 * kBlock : 1 + random() % kBlock;
    while (!transfer.all_sent()) {
      if (random() % 2 == 0) receive(transfer, pool, data, at, 1 + random() % most_in);
      if (random() % 2 == 0) send(transfer, pool, out, 1 + random() % most_out);
      ASSERT_EQ(transfer.held(), at - out.size());
    }
    ASSERT_TRUE(out == data) << "run " << run;
    EXPECT_TRUE(transfer.room(pool).empty());
    EXPECT_TRUE(transfer.ready().empty());
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, TransferSizes,
                         ::testing::Values(0, 1, 255, kBlock - 1, kBlock, kBlock + 1, 3 * kBlock,
                                           5 * kBlock + 17));

TEST(TransferTest, AskingForRoomAgainGivesTheSameRoom) {
  BlockPool pool;
  Transfer transfer(2 * kBlock);
  const auto first = transfer.room(pool);
  EXPECT_EQ(first.size(), kBlock);
  EXPECT_EQ(transfer.room(pool).data(), first.data());
  transfer.received(kBlock);
  const auto second = transfer.room(pool);
  EXPECT_NE(second.data(), first.data());
  EXPECT_EQ(transfer.room(pool).data(), second.data());
}

TEST(TransferTest, NeverOffersMoreRoomThanItsSize) {
  BlockPool pool;
  Transfer transfer(10);
  EXPECT_EQ(transfer.room(pool).size(), 10U);
  transfer.received(9);
  EXPECT_EQ(transfer.room(pool).size(), 1U);
  transfer.received(1);
  EXPECT_TRUE(transfer.room(pool).empty());
  EXPECT_FALSE(transfer.all_sent());
  EXPECT_EQ(transfer.ready().size(), 10U);
}

TEST(BlockPoolTest, BlocksAreUsedAgain) {
  BlockPool pool;
  auto block = pool.take();
  const auto* const address = block.get();
  pool.give(std::move(block));
  EXPECT_EQ(pool.take().get(), address);
}

}  // namespace
}  // namespace rpc_pipeline
