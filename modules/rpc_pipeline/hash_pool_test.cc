#include "rpc_pipeline/hash_pool.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <latch>
#include <map>
#include <new>
#include <string_view>
#include <unistd.h>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rpc_pipeline/file_test_support.h"

namespace rpc_pipeline {
namespace {

using ::testing::Eq;
using ::testing::Optional;
using namespace std::chrono_literals;

constexpr std::size_t kBlock = std::size_t{1} << 20;

std::uint64_t hash_of(std::string_view text) { return fnv1a(std::as_bytes(std::span(text))); }

/// Answers by the number of the question. Outlives the pool.
class Answers {
 public:
  HashPool::Done to(int question) {
    return [this, question](std::optional<std::uint64_t> hash) {
      const std::lock_guard lock(mutex_);
      EXPECT_FALSE(answers_.contains(question)) << question << " is answered twice";
      answers_[question] = hash;
      changed_.notify_all();
    };
  }

  /// Waits until there are `count`.
  std::map<int, std::optional<std::uint64_t>> wait(std::size_t count) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, 60s, [&] { return answers_.size() >= count; }))
        << answers_.size() << " of " << count;
    return answers_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int, std::optional<std::uint64_t>> answers_;
};

class HashPoolTest : public ::testing::Test {
 protected:
  const TempDir dir_;
  const std::string model_ = dir_.file("model.gguf");
  WeightHashes hashes_{""};
  Answers answers_;
};

TEST_F(HashPoolTest, GivesThePublishedValues) {
  write_file(model_, "xxfoobara");
  HashPool pool(hashes_, 1);
  pool.hash(range_of(model_, 2, 6), answers_.to(0));
  pool.hash(range_of(model_, 8, 1), answers_.to(1));
  pool.hash(range_of(model_, 5, 0), answers_.to(2));
  const auto answers = answers_.wait(3);
  EXPECT_THAT(answers.at(0), Optional(Eq(0x85944171f73967e8U)));
  EXPECT_THAT(answers.at(1), Optional(Eq(0xaf63dc4c8601ec8cU)));
  EXPECT_THAT(answers.at(2), Optional(Eq(0xcbf29ce484222325U)));
}

/// (threads, ranges)
class HashPoolSizes : public HashPoolTest,
                      public ::testing::WithParamInterface<std::pair<unsigned, int>> {};

TEST_P(HashPoolSizes, HashesEachRangeByItself) {
  const auto [threads, count] = GetParam();
  const std::string text = noise(3 * kBlock + 12345);
  write_file(model_, text);
  HashPool pool(hashes_, threads);
  std::vector<std::pair<std::size_t, std::size_t>> ranges;
  for (int i = 0; i < count; ++i) {
    const std::size_t offset = static_cast<std::size_t>(i) * 1009;
    // Shorter and longer than a block, whole blocks, and all there is.
    const std::size_t sizes[] = {1,          kBlock - 1,           kBlock, kBlock + 1,
                                 2 * kBlock, text.size() - offset, 77};
    ranges.emplace_back(offset, sizes[static_cast<std::size_t>(i) % std::size(sizes)]);
    pool.hash(range_of(model_, offset, ranges.back().second), answers_.to(i));
  }
  const auto answers = answers_.wait(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    const auto [offset, size] = ranges[static_cast<std::size_t>(i)];
    EXPECT_THAT(answers.at(i), Optional(Eq(hash_of(std::string_view(text).substr(offset, size)))))
        << i;
    EXPECT_THAT(hashes_.find(range_of(model_, offset, size)), Eq(answers.at(i)));
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, HashPoolSizes,
                         ::testing::Values(std::pair(1U, 1), std::pair(1U, 2), std::pair(1U, 3),
                                           std::pair(1U, 21), std::pair(3U, 2), std::pair(3U, 40),
                                           std::pair(0U, 1)));

TEST_F(HashPoolTest, AsksWhatIsKnownFirst) {
  write_file(model_, noise(100));
  const FileRange range = range_of(model_, 0, 100);
  hashes_.add(range, 42);
  HashPool pool(hashes_, 1);
  pool.hash(range, answers_.to(0));
  EXPECT_THAT(answers_.wait(1).at(0), Optional(Eq(42U)));
}

TEST_F(HashPoolTest, SaysWhenTheFileIsTooShort) {
  write_file(model_, noise(kBlock + 10));
  HashPool pool(hashes_, 1);
  pool.hash(range_of(model_, 0, kBlock + 11), answers_.to(0));
  pool.hash(range_of(model_, kBlock + 11, 1), answers_.to(1));
  pool.hash(range_of(model_, ~std::uint64_t{0} - 5, 5), answers_.to(2));
  pool.hash(range_of(model_, 0, kBlock + 10), answers_.to(3));
  pool.hash(FileRange{}, answers_.to(4));
  const auto answers = answers_.wait(5);
  for (const int failed : {0, 1, 2, 4}) EXPECT_FALSE(answers.at(failed)) << failed;
  EXPECT_TRUE(answers.at(3));
}

TEST_F(HashPoolTest, SurvivesAFileThatShrinksWhileItIsRead) {
  const std::string other = dir_.file("other.gguf");
  write_file(model_, noise(8 * kBlock));
  write_file(other, noise(4 * kBlock, 2));
  std::latch asked(1);
  std::latch half_read(1);
  std::latch shrunk(1);
  HashPool pool(hashes_, 1);
  // The only thread waits until all are asked, and again when it has read two blocks of each.
  pool.hash(range_of(other, 0, 1), [&](std::optional<std::uint64_t>) { asked.wait(); });
  pool.hash(range_of(other, 0, kBlock + 1), [&](std::optional<std::uint64_t>) {
    half_read.count_down();
    shrunk.wait();
  });
  pool.hash(range_of(model_, 0, 8 * kBlock), answers_.to(0));
  pool.hash(range_of(other, 0, 4 * kBlock), answers_.to(1));
  asked.count_down();
  half_read.wait();
  std::filesystem::resize_file(model_, kBlock / 2);
  shrunk.count_down();
  const auto answers = answers_.wait(2);
  EXPECT_FALSE(answers.at(0));
  EXPECT_THAT(answers.at(1), Optional(Eq(hash_of(noise(4 * kBlock, 2)))));
}

TEST_F(HashPoolTest, DoesNotRememberTheHashOfAFileThatChanges) {
  std::latch opened(1);
  std::latch changed(1);
  write_file(model_, noise(100));
  const FileRange range = range_of(model_, 0, 100);
  HashPool pool(hashes_, 1);
  pool.hash(range_of(model_, 0, 1), [&](std::optional<std::uint64_t>) {
    opened.count_down();
    changed.wait();
  });
  pool.hash(range, answers_.to(0));
  opened.wait();
  std::filesystem::resize_file(model_, 101);
  changed.count_down();
  EXPECT_TRUE(answers_.wait(1).at(0));
  EXPECT_FALSE(hashes_.find(range));
}

TEST_F(HashPoolTest, DropsWhatWaitsWhenItEnds) {
  write_file(model_, noise(kBlock));
  std::atomic<int> answered = 0;
  std::latch begun(1);
  const auto held = std::make_shared<int>(0);
  {
    HashPool pool(hashes_, 1);
    pool.hash(range_of(model_, 0, 1), [&](std::optional<std::uint64_t>) { begun.count_down(); });
    for (int i = 0; i < 1000; ++i) {
      pool.hash(range_of(model_, 0, kBlock - static_cast<std::size_t>(i)),
                [&answered, held](std::optional<std::uint64_t>) { ++answered; });
    }
    begun.wait();
  }
  EXPECT_LT(answered, 1000);
  EXPECT_EQ(held.use_count(), 1) << "a callback is still there";
}

TEST_F(HashPoolTest, EndsWithoutHavingBegun) { const HashPool pool(hashes_, 4); }

TEST_F(HashPoolTest, TakesQuestionsFromItsAnswers) {
  write_file(model_, noise(kBlock));
  HashPool pool(hashes_, 2);
  std::function<void(int)> ask = [&](int left) {
    pool.hash(range_of(model_, 0, static_cast<std::size_t>(left)),
              [&, left](std::optional<std::uint64_t> hash) {
                EXPECT_TRUE(hash);
                if (left > 0) ask(left - 1);
                answers_.to(left)(hash);
              });
  };
  ask(50);
  EXPECT_EQ(answers_.wait(51).size(), 51U);
}

TEST_F(HashPoolTest, GoesOnAfterACallbackRanOutOfMemory) {
  write_file(model_, noise(100));
  HashPool pool(hashes_, 1);
  pool.hash(range_of(model_, 0, 10), [](std::optional<std::uint64_t>) { throw std::bad_alloc(); });
  pool.hash(range_of(model_, 0, 20), answers_.to(0));
  answers_.wait(1);
  pool.hash(range_of(model_, 0, 30), answers_.to(1));
  EXPECT_TRUE(answers_.wait(2).at(1));
}

}  // namespace
}  // namespace rpc_pipeline
