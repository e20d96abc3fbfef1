#include "rpc_pipeline/hash_pool.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <exception>
#include <fcntl.h>
#include <memory>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace rpc_pipeline {
namespace {

constexpr std::size_t kBlockSize = std::size_t{1} << 20;
/// Asked of the kernel while the block before it is hashed.
constexpr std::uint64_t kReadAhead = 4 * kBlockSize;

}  // namespace

/// One of the ranges that a thread hashes together, block by block.
class HashPool::Lane {
 public:
  bool busy() const { return job_.range.file != nullptr; }
  bool whole() const { return left_ == 0 && unhashed_ == 0; }
  const FileRange& range() const { return job_.range; }
  std::size_t unhashed() const { return unhashed_; }
  std::uint64_t hash() const { return stream_.hash; }
  const HashedStream& stream() const { return stream_; }
  bool is_new() const { return at_ == job_.range.offset && unhashed_ == 0; }

  void begin(Job job) {
    job_ = std::move(job);
    stream_ = {};
    at_ = job_.range.offset;
    left_ = job_.range.size;
    unhashed_ = 0;
  }

  /// Reads the next block if the last one is used up. False if the file has no more, or can't be
  /// read.
  bool fill() {
    if (unhashed_ > 0 || left_ == 0) return true;
    if (!block_) block_ = std::make_unique_for_overwrite<std::byte[]>(kBlockSize);
    const std::size_t wanted = static_cast<std::size_t>(std::min<std::uint64_t>(kBlockSize, left_));
    ssize_t count = 0;
    do {
      count = ::pread(job_.range.file->fd, block_.get(), wanted, static_cast<off_t>(at_));
    } while (count < 0 && errno == EINTR);
    if (count <= 0) return false;
    unhashed_ = static_cast<std::size_t>(count);
    stream_.data = block_.get();
    at_ += unhashed_;
    left_ -= unhashed_;
    if (left_ > 0) {
      ::posix_fadvise(job_.range.file->fd, static_cast<off_t>(at_),
                      static_cast<off_t>(std::min(kReadAhead, left_)), POSIX_FADV_WILLNEED);
    }
    return true;
  }

  void hashed(const HashedStream& stream, std::size_t count) {
    stream_ = stream;
    unhashed_ -= count;
  }

  Job end() { return std::exchange(job_, {}); }

 private:
  Job job_;
  std::unique_ptr<std::byte[]> block_;
  HashedStream stream_;
  std::uint64_t at_ = 0;
  std::uint64_t left_ = 0;  // Not yet read.
  std::size_t unhashed_ = 0;
};

HashPool::HashPool(WeightHashes& hashes, unsigned threads)
    : hashes_(hashes), thread_count_(std::max(1U, threads)) {}

HashPool::~HashPool() {
  for (std::jthread& thread : threads_) thread.request_stop();
}

void HashPool::hash(FileRange range, Done done) {
  {
    const std::lock_guard lock(mutex_);
    if (threads_.size() < thread_count_) start_thread();
    if (range.file && !threads_.empty()) {
      jobs_.push_back({std::move(range), std::move(done)});
      wake_.notify_one();
      return;
    }
  }
  done(std::nullopt);
}

void HashPool::start_thread() {
  try {
    threads_.emplace_back([this](const std::stop_token& stop) { work(stop); });
  } catch (const std::system_error&) {
    thread_count_ = static_cast<unsigned>(threads_.size());  // The system has no more.
  }
}

void HashPool::work(const std::stop_token& stop) {
  std::array<Lane, kStreamsTogether> lanes;
  while (take_jobs(lanes, stop)) {
    try {
      step(lanes);
    } catch (const std::exception&) {  // Out of memory.
      for (Lane& lane : lanes) {
        if (lane.busy()) answer(lane, std::nullopt);
      }
    }
  }
}

/// Gives waiting jobs to free lanes; waits for one only if all are free. False: the pool ends.
bool HashPool::take_jobs(std::span<Lane> lanes, const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  const bool works = std::ranges::any_of(lanes, &Lane::busy);
  if (!works) {
    ++idle_;
    wake_.wait(lock, stop, [this] { return !jobs_.empty(); });
    --idle_;
  }
  if (stop.stop_requested()) return false;
  bool first = !works;
  for (Lane& lane : lanes) {
    // Those that wait get one each before this thread gets another.
    if (lane.busy() || jobs_.empty() || (!first && jobs_.size() <= idle_)) continue;
    first = false;
    lane.begin(std::move(jobs_.front()));
    jobs_.pop_front();
  }
  return true;
}

/// One step: of each range as much as the block of each has left.
void HashPool::step(std::span<Lane> lanes) {
  std::array<HashedStream, kStreamsTogether> streams;
  std::array<Lane*, kStreamsTogether> sources{};
  std::size_t count = 0;
  std::size_t size = kBlockSize;
  for (Lane& lane : lanes) {
    if (!prepare(lane)) continue;
    streams[count] = lane.stream();
    sources[count++] = &lane;
    size = std::min(size, lane.unhashed());
  }
  fnv1a_together(std::span(streams).first(count), size);
  for (std::size_t i = 0; i < count; ++i) {
    sources[i]->hashed(streams[i], size);
    if (sources[i]->whole()) finish(*sources[i]);
  }
}

/// True if the lane has bytes to hash; otherwise it has no job, or its job is answered.
bool HashPool::prepare(Lane& lane) {
  if (!lane.busy()) return false;
  if (lane.is_new()) {
    if (const auto known = hashes_.find(lane.range())) {
      answer(lane, known);
      return false;
    }
  }
  if (!lane.fill()) {
    answer(lane, std::nullopt);
    return false;
  }
  if (!lane.whole()) return true;
  finish(lane);  // An empty range.
  return false;
}

void HashPool::finish(Lane& lane) {
  // Of a file that changed meanwhile, what was read may be neither the old nor the new one's.
  if (lane.range().file->unchanged()) hashes_.add(lane.range(), lane.hash());
  answer(lane, lane.hash());
}

void HashPool::answer(Lane& lane, std::optional<std::uint64_t> hash) {
  const Job job = lane.end();
  job.done(hash);
}

}  // namespace rpc_pipeline
