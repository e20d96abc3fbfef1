// A worker for tests: speaks the protocol on a loopback socket, over memory that is real, and
// misbehaves on command. Owned by the test; any thread may call. Serves one client at a time.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "rpc_pipeline/wire.h"

namespace rpc_pipeline {

class FakeWorker {
 public:
  struct Options {
    HelloReply hello{kProtocolMajor, kProtocolMinor, 0, 0, {}};
    bool greets = true;   ///< False: accepts and never says a word.
    bool accepts = true;  ///< False: the connection stays in the listener's queue.
    bool ipv6 = false;
    bool copies = true;                  ///< What COPY_TENSOR answers.
    std::size_t answer_piece = 0;        ///< Bytes of an answer sent at once; 0: all.
    std::size_t read_piece = 0;          ///< Bytes of a request read at once; 0: all.
    std::chrono::milliseconds pause{0};  ///< After each piece.
    std::size_t together = 1;            ///< Answers that it sends at once.
    int buffer_size = 0;                 ///< Of the socket, each way; 0: the system's.
    std::string greeting{};              ///< Raw bytes in place of the answer to HELLO.
  };

  /// What it does, once, at a request. Holds last until release() or the end.
  enum class Fault {
    kHold,           ///< Doesn't serve the request.
    kHoldInBody,     ///< Stops reading in the middle of the request.
    kHoldInAnswer,   ///< Stops in the middle of the answer.
    kClose,          ///< Closes instead of serving it.
    kCloseInBody,    ///< Closes in the middle of the request.
    kCloseInAnswer,  ///< Closes in the middle of the answer.
    kReset,          ///< Resets the connection instead of serving it.
    kLonger,         ///< Claims, and sends, a byte too much.
    kShorter,        ///< A byte too little.
    kUnasked,        ///< Sends as much again.
    kBadFlag,        ///< Answers 7.
  };

  /// A request that was served.
  struct Served {
    Command command{};
    std::uint64_t tensor = 0;  ///< Its id, if the request has one.
    std::uint64_t size = 0;    ///< Of the body.
    bool keep = false;         ///< Of SET_TENSOR.
  };

  /// A body of GRAPH_COMPUTE that does something: each byte times 3, plus `add`.
  struct Step {
    WireTensor tensor;
    std::uint8_t add;
  };

  FakeWorker();
  explicit FakeWorker(Options options);
  ~FakeWorker();
  FakeWorker(const FakeWorker&) = delete;
  FakeWorker& operator=(const FakeWorker&) = delete;

  /// "127.0.0.1:PORT" or "[::1]:PORT".
  const std::string& address() const { return address_; }

  /// A tensor of so many bytes, zeros, in a buffer of its own.
  WireTensor add_tensor(std::uint64_t size);
  std::string content(const WireTensor& tensor) const;
  void set_content(const WireTensor& tensor, const std::string& bytes);

  /// At the first request with this command, after `skip` others.
  void fail_at(Command command, Fault fault, int skip = 0);
  /// Each request with this command takes so long.
  void set_delay(Command command, std::chrono::milliseconds delay);
  void release();
  void drop_client();

  /// Waits until it holds; false if it takes too long.
  bool wait_until_held();
  bool wait_until_served(std::size_t count);
  std::vector<Served> served() const;
  std::size_t served(Command command) const;
  std::uint64_t bytes_sent() const { return bytes_sent_; }
  std::uint64_t bytes_read() const { return bytes_read_; }
  /// What broke the protocol; empty if nothing did.
  std::string violation() const;
  void cache(std::uint64_t hash, const std::string& bytes);
  bool has_cached(std::uint64_t hash) const;

 private:
  using Body = std::vector<std::byte>;
  struct Planned {
    Command command;
    Fault fault;
    int skip;
  };

  void open_listener();
  void run();
  bool serve_request();
  bool read(std::span<std::byte> bytes);
  bool write(std::span<const std::byte> bytes);
  bool answer(Command command, const Body& body, std::optional<Fault> fault);
  std::optional<Body> handle(Command command, const Body& body);
  std::optional<Body> handle_memory(Command command, const Body& body);
  void set_tensor(const Body& body);
  Body set_tensor_hash(const Body& body);
  std::optional<Fault> planned(Command command);
  void hold();
  void wait(std::chrono::milliseconds time);
  std::span<std::byte> memory(const WireTensor& tensor, std::uint64_t offset, std::uint64_t size);
  void violate(const std::string& what);

  const Options options_;
  std::string address_;
  int listener_ = -1;
  std::atomic<std::uint64_t> bytes_sent_ = 0;
  std::atomic<std::uint64_t> bytes_read_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  int client_ = -1;
  bool stopping_ = false;
  bool held_ = false;
  std::uint64_t releases_ = 0;
  std::vector<Planned> plan_;
  std::map<Command, std::chrono::milliseconds> delays_;
  std::vector<Served> served_;
  std::string violation_;
  std::map<std::uint64_t, std::vector<std::byte>> buffers_;
  std::map<std::uint64_t, std::vector<std::byte>> cache_;
  std::uint64_t next_id_ = 1;
  std::vector<std::byte> unsent_;  // Answers, while there are fewer than are sent together.
  std::size_t unsent_count_ = 0;

  std::thread thread_;
};

}  // namespace rpc_pipeline
