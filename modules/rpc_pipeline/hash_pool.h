// Threads that read ranges of files and hash them, several tensors at a time. Any thread may ask.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <thread>
#include <vector>

#include "rpc_pipeline/weight_hashes.h"

namespace rpc_pipeline {

class HashPool {
 public:
  /// Called on a thread of the pool; nothing if the file can't be read. It may ask for the next
  /// range, and must not destroy the pool.
  using Done = std::function<void(std::optional<std::uint64_t>)>;

  /// Threads start with the first range. `hashes` is asked first, and told what was computed.
  HashPool(WeightHashes& hashes, unsigned threads);
  /// Ends after the blocks (1 MiB of each range) that are being read; ranges that wait or are under
  /// way are dropped, unanswered.
  ~HashPool();
  HashPool(const HashPool&) = delete;
  HashPool& operator=(const HashPool&) = delete;

  /// Begun in the order of the calls. Where no thread can be had, `done` gets nothing at once.
  void hash(FileRange range, Done done);

 private:
  class Lane;
  struct Job {
    FileRange range;
    Done done;
  };

  void start_thread();
  void work(const std::stop_token& stop);
  bool take_jobs(std::span<Lane> lanes, const std::stop_token& stop);
  void step(std::span<Lane> lanes);
  bool prepare(Lane& lane);
  void finish(Lane& lane);
  void answer(Lane& lane, std::optional<std::uint64_t> hash);

  WeightHashes& hashes_;
  unsigned thread_count_;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::deque<Job> jobs_;
  std::size_t idle_ = 0;               // Threads that wait for a job.
  std::vector<std::jthread> threads_;  // Last: they end before what they use.
};

}  // namespace rpc_pipeline
