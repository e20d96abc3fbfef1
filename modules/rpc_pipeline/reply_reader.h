// Decoder of what a worker answers: a pure state machine that is fed bytes, and says where the
// next ones belong. It reads no more than the client asked for, allocates nothing by the worker's
// word, and any answer that was not asked for or has another size is an error, for good. One
// thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>

#include "rpc_pipeline/wire.h"

namespace rpc_pipeline {

class ReplyReader {
 public:
  /// An answer of `size` bytes to `command` will come after those that were announced before.
  void expect(Command command, std::uint64_t size);

  /// What the next bytes are for.
  enum class Wants {
    kNothing,  ///< No answer is due; any byte is an error.
    kHead,     ///< Up to remaining() bytes for accept_head().
    kBody,     ///< Up to remaining() bytes of the first announced answer's body, for accept_body().
  };
  Wants wants() const;

  /// Bytes that are left of the current head or body.
  std::uint64_t remaining() const;

  /// Takes bytes of a head, no more than remaining(). An error says what is wrong with the answer;
  /// the connection can't be used after it.
  std::optional<std::string> accept_head(std::span<const std::byte> bytes);

  /// Counts bytes of a body, no more than remaining(). True when the answer is whole: it is taken
  /// off, and the next one begins.
  bool accept_body(std::uint64_t count);

  /// Answers that are due or under way.
  std::size_t due() const { return due_.size(); }

  /// The command whose answer is read or comes next; only if due() > 0.
  Command command() const { return due_.front().command; }

 private:
  struct Due {
    Command command;
    std::uint64_t size;
  };

  std::deque<Due> due_;
  std::array<std::byte, kReplyHeadSize> head_{};
  std::size_t head_filled_ = 0;
  std::uint64_t body_read_ = 0;
};

// What fixed-size answers must satisfy before they are believed. Each gives an error text or
// nothing.

std::optional<std::string> check(const HelloReply& reply);
std::optional<std::string> check(const DeviceCountReply& reply);
std::optional<std::string> check(const MemoryReply& reply);
/// `size`: what was asked for.
std::optional<std::string> check(const AllocReply& reply, std::uint64_t size);
std::optional<std::string> check_alignment(const NumberReply& reply);
std::optional<std::string> check_base(const NumberReply& reply, std::uint64_t buffer_size);
/// `size`: bytes of the tensor's own data, the least that it needs.
std::optional<std::string> check_alloc_size(const NumberReply& reply, std::uint64_t size);
std::optional<std::string> check(const FlagReply& reply);

}  // namespace rpc_pipeline
