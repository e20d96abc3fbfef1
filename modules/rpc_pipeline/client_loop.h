// The client: one thread that sends and receives for all workers, so that bytes from one worker go
// on to the next as they come. When one worker is lost, all are given up: each holds a part of the
// model and of every context, so nothing can be computed without it. Any thread may call.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "rpc_pipeline/endpoint.h"
#include "rpc_pipeline/hash_pool.h"
#include "rpc_pipeline/settings.h"
#include "rpc_pipeline/weight_hashes.h"

namespace rpc_pipeline {

class Connection;

class ClientLoop {
 public:
  /// `log`: one line, without its newline; called on any thread.
  using Log = std::function<void(const std::string& line)>;

  ClientLoop(Settings settings, Log log);
  /// Ends the thread and closes the connections; nobody may wait at an endpoint any more.
  ~ClientLoop();
  ClientLoop(const ClientLoop&) = delete;
  ClientLoop& operator=(const ClientLoop&) = delete;

  /// The worker at "HOST:PORT", connected at the first call for it (which blocks, up to the
  /// deadline). Null if it can't be used; the line that says why is logged.
  Endpoint* endpoint(const std::string& address);

  const Settings& settings() const { return settings_; }

  /// "worker lost: NAME (HOST:PORT): REASON", or empty.
  std::string failure() const;

  /// Gives up because of what a worker answered: "REASON" as in failure(). Any thread.
  void give_up(const Endpoint& culprit, const std::string& reason);

  /// New requests are queued somewhere.
  void wake();

  /// Held while the two requests of a copy are queued.
  std::mutex& copies() { return copies_; }

 private:
  friend class Connection;

  struct Hashed {
    Connection* connection;
    std::uint64_t upload;
    std::optional<std::uint64_t> hash;
  };

  Endpoint* find(const std::string& address) const;
  void start_thread();

  // On the loop's thread.
  void run(const std::stop_token& stop);
  void turn(int timeout_ms);
  void drain_event();
  void on_wake();
  void check_deadlines(std::chrono::steady_clock::time_point now);
  bool failed() const { return failed_; }
  void lose(const Endpoint& culprit, const std::string& reason);
  void fail(std::string line);
  void close_all();
  void set_interest(Connection& connection, std::uint32_t events);
  int sleep_ms() const;
  // On the loop's thread or a pool's.
  void hash(Connection& connection, std::uint64_t upload, const FileRange& range);

  std::string subject(const Endpoint& endpoint) const;

  const Settings settings_;
  const Log log_;
  WeightHashes hashes_;
  int epoll_ = -1;
  int event_ = -1;
  std::atomic<bool> signalled_ = false;
  std::atomic<bool> failed_ = false;

  std::mutex copies_;
  std::mutex connecting_;  // Taken before mutex_, which the thread must never wait long for.
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Endpoint>> endpoints_;
  std::vector<std::unique_ptr<Connection>> fresh_;  // Connected, not yet known to the thread.
  std::vector<Hashed> hashed_;
  std::string failure_;

  std::vector<std::unique_ptr<Connection>> connections_;  // The thread's own.
  BlockPool blocks_;
  std::vector<int> leaving_;  // Sockets of workers that were given up, not yet closed.
  bool closed_ = false;

  std::optional<HashPool> pool_;  // Ends before what its callbacks use.
  std::jthread thread_;
};

}  // namespace rpc_pipeline
