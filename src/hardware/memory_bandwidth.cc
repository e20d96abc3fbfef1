#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <sys/mman.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include "hardware/host.h"

namespace yoke::hardware {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// Together under 100 ms: pages are made until kTouchEnd, copies counted between the other two.
constexpr milliseconds kTouchEnd{35};
constexpr milliseconds kCopyBegin{40};
constexpr milliseconds kCopyEnd{90};
// What is copied between two looks at the clock.
constexpr std::size_t kStep = 512u << 10;

struct Unmap {
  std::size_t size = 0;
  void operator()(std::byte* memory) const { ::munmap(memory, size); }
};
using Mapping = std::unique_ptr<std::byte, Unmap>;

Mapping map(std::size_t size) {
  void* const memory =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return {nullptr, Unmap{0}};
  ::madvise(memory, size, MADV_HUGEPAGE);  // Fewer page faults; all the same if it is refused.
  return {static_cast<std::byte*>(memory), Unmap{size}};
}

// Writes to each page, for the zero page that stands in for the others is always in the cache.
// Returns how far it came.
std::size_t touch(std::span<std::byte> memory, Clock::time_point end) {
  std::size_t done = 0;
  while (done < memory.size() && Clock::now() < end) {
    const std::size_t step = std::min(kStep, memory.size() - done);
    std::memset(memory.data() + done, 0x5a, step);
    done += step;
  }
  return done;
}

// Bytes per second, read plus written, that one thread copies from one half of its memory to the
// other; 0 if it got no memory in time.
double copy_rate(std::size_t size, Clock::time_point start) {
  const Mapping memory = map(size);
  if (!memory) return 0;
  const std::size_t touched = touch({memory.get(), size}, start + kTouchEnd);
  const std::size_t half = touched / (2 * kStep) * kStep;
  if (half == 0) return 0;
  std::this_thread::sleep_until(start + kCopyBegin);
  const auto begin = Clock::now();
  auto now = begin;
  std::uint64_t copied = 0;
  for (std::size_t at = 0; now < start + kCopyEnd; at = (at + kStep) % half) {
    std::memcpy(memory.get() + half + at, memory.get() + at, kStep);
    asm volatile("" ::: "memory");  // Nobody reads the copy: the compiler must not know.
    copied += kStep;
    now = Clock::now();
  }
  const double seconds = std::chrono::duration<double>(now - begin).count();
  return seconds > 0 ? 2 * static_cast<double>(copied) / seconds : 0;
}

// The memory of one thread. Several times its part of the last cache, of which processors with
// chiplets have many, each shared by about eight cores.
std::size_t size_per_thread(int threads, std::uint64_t at_most) {
  constexpr std::uint64_t kAssumedCache = 32u << 20;
  constexpr std::uint64_t kCoresPerCache = 8;
  const long known = ::sysconf(_SC_LEVEL3_CACHE_SIZE);
  const std::uint64_t cache = known > 0 ? static_cast<std::uint64_t>(known) : kAssumedCache;
  const auto count = static_cast<std::uint64_t>(threads);
  const std::uint64_t wanted = 4 * cache / std::min(count, kCoresPerCache);
  const std::uint64_t size = std::min(wanted, at_most / count) / (2 * kStep) * (2 * kStep);
  return static_cast<std::size_t>(size);
}

template <class Work>
bool run_on(std::vector<std::jthread>& workers, Work work) {
  try {
    workers.emplace_back(std::move(work));
    return true;
  } catch (const std::system_error&) {
    return false;
  }
}

}  // namespace

// Counted as STREAM counts its Copy: each byte once as read and once as written, and not the read
// of a line before it is written that most processors add.
double measure_memory_bandwidth(int threads, std::uint64_t at_most) {
  constexpr int kMostThreads = 32;  // They saturate any memory.
  threads = std::clamp(threads, 1, kMostThreads);
  const std::size_t size = size_per_thread(threads, at_most);
  if (size == 0) return 0;
  std::vector<double> rates(static_cast<std::size_t>(threads), 0);
  std::vector<std::jthread> workers;
  workers.reserve(rates.size());
  const auto start = Clock::now();
  for (double& rate : rates) {
    // At a limit of threads those that run have to do.
    if (!run_on(workers, [&rate, size, start] { rate = copy_rate(size, start); })) break;
  }
  workers.clear();  // Joins.
  double sum = 0;
  for (const double rate : rates) sum += rate;
  return sum;
}

}  // namespace yoke::hardware
