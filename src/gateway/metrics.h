// Counters of the gateway, written as Prometheus text. Each thread counts in a shard of its own, so
// that counting costs no cache line that another core writes. Any thread.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>

#include "supervisor/route_table.h"

namespace yoke::gateway {

// Routes are counted apart; whatever is no request to a model is kOther.
enum class RouteKind { kChat, kCompletion, kEmbedding, kRerank, kOther };

class Metrics {
 public:
  void count_request(RouteKind kind, int status);
  void count_chunk(std::size_t bytes);
  void count_first_byte(std::chrono::nanoseconds after);
  void count_client_gone();
  // An engine failed or refused with this status.
  void count_engine_trouble(int status);
  // An answer was put to another engine: from its beginning, or to go on where it was cut.
  void count_survival(bool continued);
  void count_cut_stream();

  // The text for GET /metrics, with the instances of the table.
  std::string text(const supervisor::RouteTable& table) const;

 private:
  using Counter = std::atomic<std::uint64_t>;
  static constexpr std::size_t kKinds = 5;
  static constexpr std::size_t kStatuses = 600;  // By HTTP status.
  static constexpr std::array<double, 14> kBuckets{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                                   1,     2.5,  5,     10,   30,  60,   300};

  struct alignas(64) Shard {
    std::array<std::array<Counter, kStatuses>, kKinds> requests{};
    std::array<Counter, kBuckets.size() + 1> first_byte{};
    Counter first_byte_ns{0};
    Counter chunks{0};
    Counter bytes{0};
    Counter clients_gone{0};
    Counter engine_errors{0};
    Counter cut_streams{0};
    Counter replayed{0};
    Counter continued{0};
  };
  static constexpr std::size_t kShards = 16;

  Shard& mine();
  template <class Get>
  std::uint64_t sum(Get get) const;

  std::array<Shard, kShards> shards_{};
};

}  // namespace yoke::gateway
