// The socket of one worker: sends what was taken from its endpoint's queue, in order, and gives
// answers to whom they belong. Used on the loop's thread only; owned by the ClientLoop.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "rpc_pipeline/message.h"
#include "rpc_pipeline/reply_reader.h"

namespace rpc_pipeline {

class ClientLoop;
class Endpoint;

class Connection {
 public:
  using Clock = std::chrono::steady_clock;

  Connection(ClientLoop& loop, Endpoint& endpoint, int fd);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  int fd() const { return fd_; }
  /// The socket becomes the caller's. Nothing else may be called any more.
  int release_fd() { return std::exchange(fd_, -1); }
  Endpoint& endpoint() { return endpoint_; }

  /// Moves what the endpoint has queued here, and sends.
  void take();
  void on_writable();
  void on_readable();
  void on_hang_up();
  /// The hash of an upload that waits for it; nothing if its file can't be read.
  void on_hash(std::uint64_t upload, std::optional<std::uint64_t> hash);

  /// It owes something: an answer, or room for what is to be sent.
  bool owes() const;
  /// Why the worker counts as lost by now, if it does.
  std::optional<std::string> overdue(Clock::time_point now,
                                     std::chrono::milliseconds timeout) const;

 private:
  // A request that is being sent or waits for it.
  struct Outgoing {
    Message message;
    std::array<std::byte, kRequestHeadSize> head{};
    std::uint64_t sent = 0;     // Of head, body and tail together.
    std::uint64_t advised = 0;  // Of a file: what the kernel was asked to read ahead.

    std::uint64_t tail_begin() const { return head.size() + message.body.size(); }
    std::uint64_t size() const { return tail_begin() + message.tail_size(); }
  };

  // An answer that is due.
  struct Due {
    std::byte* into = nullptr;
    std::shared_ptr<Transfer> onward;
    bool* done = nullptr;
    bool is_read = false;
    bool must_be_one = false;
    std::unique_ptr<Upload> asked;  // SET_TENSOR_HASH
    std::optional<Clock::time_point> sent_at;
  };

  /// Bytes that one worker may send or be sent before it is the others' turn.
  static constexpr std::uint64_t kTurn = std::uint64_t{4} << 20;

  enum class Sent { kSome, kBlocked, kStarved, kFailed };

  // connection.cc: sending
  void admit();
  void enqueue(Message message);
  std::deque<Outgoing>::iterator place_of(const Message& message);
  void send();
  Sent send_some(std::uint64_t& count);
  Sent send_file(Outgoing& outgoing, std::uint64_t& count);
  void advance(std::uint64_t count);
  void complete(Outgoing& outgoing);
  void want_write(bool wanted);
  void update_interest();

  // uploads.cc
  void start(std::unique_ptr<Upload> upload);
  void ask(std::unique_ptr<Upload> upload, std::uint64_t hash);
  void on_asked(std::unique_ptr<Upload> upload, std::uint8_t flag);
  void enqueue_data(Upload& upload, bool keep);

  // receiving.cc
  bool receive_some(std::uint64_t& count);
  std::span<std::byte> destination();
  bool accept(std::uint64_t count);
  void finish_answer();
  void released(std::uint64_t count);
  void fail(const std::string& reason);

  ClientLoop& loop_;
  Endpoint& endpoint_;
  int fd_;
  std::uint32_t interest_ = 0;

  std::deque<Message> waiting_;  // Taken, held back by uploads before them.
  std::deque<Outgoing> sending_;
  bool blocked_ = false;  // The socket takes no more for now.
  Clock::time_point last_sent_;

  ReplyReader reader_;
  std::deque<Due> due_;
  std::size_t due_sent_ = 0;  // How many of due_ belong to requests that are wholly sent.
  std::array<std::byte, kReplyHeadSize> head_{};
  FlagReply flag_{};
  std::uint64_t body_read_ = 0;
  std::uint64_t held_ = 0;  // Bytes of transfers that were read here and not yet sent on.
  bool paused_ = false;
  Clock::time_point last_received_;

  std::map<std::uint64_t, std::unique_ptr<Upload>> hashing_;
  std::uint64_t next_upload_ = 0;
  std::size_t open_uploads_ = 0;  // Asked or being hashed.
};

}  // namespace rpc_pipeline
