// The state that all connection threads share: loading, slots, counters, stopping.
// Owned by main; every method may be called from every thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "fake_engine/behaviour.h"
#include "fake_engine/connection.h"
#include "fake_engine/kv_cache.h"
#include "fake_engine/options.h"

namespace fake_engine {

struct Counters {
  std::atomic<uint64_t> requests{0};      // For a completion or an embedding.
  std::atomic<uint64_t> completed{0};     // Of those, answered in full.
  std::atomic<uint64_t> cancelled{0};     // Of those, left by the client.
  std::atomic<uint64_t> failed{0};        // Of those, ended by a scripted failure or an error.
  std::atomic<uint64_t> bad_requests{0};  // What came was not HTTP as it should be.
  std::atomic<uint64_t> active{0};
  std::atomic<uint64_t> max_active{0};
  std::atomic<uint64_t> tokens_sent{0};
  std::atomic<uint64_t> bytes_sent{0};
  std::atomic<uint64_t> prefilled_tokens{0};  // Of prompts, computed.
  std::atomic<uint64_t> cached_tokens{0};     // Of prompts, there already.
  std::atomic<uint64_t> saves{0};             // Asked for, whatever came of it.
  std::atomic<uint64_t> restores{0};
  std::atomic<uint64_t> foreign_restores{0};  // Of what another model, build or cache type saved.
  std::atomic<uint64_t> connections_open{0};
  std::atomic<uint64_t> connections_total{0};
  std::atomic<uint64_t> last_body_bytes{0};
  std::atomic<uint64_t> last_body_fnv{0};
};

struct SlotState {
  bool is_processing = false;
  int64_t task = -1;
  int64_t decoded = 0;
};

class Engine {
 public:
  Engine(Options options, Behaviour behaviour, std::vector<pid_t> children);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const Options& options() const { return options_; }
  const Behaviour& behaviour() const { return behaviour_; }
  const std::vector<pid_t>& children() const { return children_; }
  Counters& counters() { return counters_; }

  void set_loaded() { loaded_ = true; }
  bool loaded() const { return loaded_; }

  // Makes every wait of every connection end with Wait::kStopping.
  void stop();
  int stop_fd() const { return stop_fd_; }

  void connection_opened();
  void connection_closed();
  // False if some are still open at the deadline.
  bool wait_for_connections_to_close(int64_t deadline_ns);

  // From now on every request for a completion or an embedding fails so, until a restart.
  void break_down(int status, const std::string& message);
  struct Breakdown {
    int status;
    std::string message;
  };
  std::optional<Breakdown> breakdown() const;

  int64_t next_task() { return next_task_++; }
  uint64_t next_seed() { return next_seed_++; }

  KvCache& cache() { return cache_; }
  const KvCache& cache() const { return cache_; }

  // Waits in line for a slot, and stops waiting when the client leaves. `slot` is set on kReady.
  Wait acquire_slot(Connection& connection, int64_t task, const Tokens& prompt, size_t& slot);
  void release_slot(size_t slot);
  std::vector<size_t> idle_slots() const;
  void set_decoded(size_t slot, int64_t tokens);
  std::vector<SlotState> slots() const;
  size_t waiting_for_slot() const;

 private:
  struct Waiter {
    int wake_fd;
    int64_t task;
    bool has_slot = false;
    size_t slot = 0;
  };

  std::vector<size_t> find_idle() const;  // With the mutex held.
  void give_slot(size_t slot, int64_t task);
  Wait leave_line(Waiter& waiter, Wait outcome, size_t& slot);

  const Options options_;
  const Behaviour behaviour_;
  const std::vector<pid_t> children_;
  Counters counters_;
  std::atomic<bool> loaded_{false};
  std::atomic<int64_t> next_task_{0};
  std::atomic<uint64_t> next_seed_{1};
  const int stop_fd_;

  mutable std::mutex breakdown_mutex_;
  std::optional<Breakdown> breakdown_;

  mutable std::mutex slots_mutex_;
  std::vector<SlotState> slots_;
  std::deque<Waiter*> line_;

  KvCache cache_;

  std::mutex connections_mutex_;
  std::condition_variable connection_closed_;
};

}  // namespace fake_engine
