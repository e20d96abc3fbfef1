// One worker, as llama.cpp's threads see it: a queue of requests, and waits for answers. Requests
// reach the worker in the order in which they were queued. Any thread may call, except where it
// says that the loop does. Every wait ends: with the answer, or when a worker is lost, which the
// loop finds out by deadlines. Owned by the ClientLoop.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>

#include "rpc_pipeline/message.h"

namespace rpc_pipeline {

class ClientLoop;

class Endpoint {
 public:
  Endpoint(ClientLoop& loop, std::string address, std::uint64_t max_queued);

  const std::string& address() const { return address_; }

  /// Queues a request that owns its data. Waits only while more than max_queued bytes are queued.
  /// Nothing happens if a worker was lost.
  void post(Message message);

  /// Queues a request and waits until its answer is in `message.into` (or it is sent, if it has
  /// none). False if a worker was lost: `into` then holds nothing.
  bool call(Message message);

  /// `call` with an answer of fixed size.
  template <typename Reply>
  bool call(Message message, Reply& reply) {
    message.reply_size = sizeof(Reply);
    message.into = reinterpret_cast<std::byte*>(&reply);
    return call(std::move(message));
  }

  /// Waits for the answers to all requests with `is_read` that were queued so far, or to the first
  /// `count` of them. False, once, if any of them is missing.
  bool wait_for_reads();
  bool wait_for_reads(std::uint64_t count);
  /// How many such requests were queued so far.
  std::uint64_t reads() const;

  /// No request is answered any more.
  bool lost() const;

  /// Buffers that were freed so far; the worker forgets its stored graphs with each.
  std::atomic<std::uint64_t> buffers_freed = 0;

  // Called by the loop.

  std::deque<Message> take();
  void on_sent(std::uint64_t owned_size, bool* done);
  void on_answer(bool* done, bool is_read);
  void on_lost();

 private:
  friend void post_chained(Endpoint& source, Message get, Endpoint& destination, Message set);

  bool enqueue(Message& message, std::unique_lock<std::mutex>& lock);

  ClientLoop& loop_;
  const std::string address_;
  const std::uint64_t max_queued_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Message> queue_;
  std::uint64_t queued_ = 0;  // Bytes in queue_ and at the loop, not yet sent.
  std::uint64_t reads_ = 0;
  std::uint64_t reads_answered_ = 0;
  bool reads_missing_ = false;
  bool lost_ = false;
};

/// Queues at both workers: bytes that `get` reads at the source become the data of `set`. Neither
/// this thread nor the source waits for the destination. `get` needs its `reply_size`.
void post_chained(Endpoint& source, Message get, Endpoint& destination, Message set);

}  // namespace rpc_pipeline
