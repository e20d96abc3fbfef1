// One request to a worker, and what becomes of its answer. Values that move: from the caller into
// an endpoint's queue, from there to the client's loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "rpc_pipeline/bytes.h"
#include "rpc_pipeline/transfer.h"
#include "rpc_pipeline/weight_source.h"
#include "rpc_pipeline/wire.h"

namespace rpc_pipeline {

/// The data of one weight that goes to a worker: by its hash if the worker has it in its cache,
/// else as bytes of the file.
struct Upload {
  WireTensor tensor{};
  std::uint64_t offset = 0;
  FileRange data;
  bool ask = false;  ///< Large enough for the worker's cache.
};

/// Bytes of a worker's memory.
struct MemoryRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;

  bool overlaps(const MemoryRange& other) const { return begin < other.end && other.begin < end; }
};

struct Message {
  Command command{};
  Bytes body;

  /// Of a GRAPH_COMPUTE that only writes data that the client has: all that it writes. It may go
  /// before data that is still awaited, as a SET_TENSOR may.
  std::optional<MemoryRange> fills;

  // What follows the body; at most one of them.
  std::span<const std::byte> borrowed;  ///< The caller's: it waits until the message is sent.
  FileRange file;
  std::shared_ptr<Transfer> transfer;

  /// Size of the answer, if the command has one, and where its body goes: to the caller's memory or
  /// to another worker.
  std::optional<std::uint64_t> reply_size;
  std::byte* into = nullptr;
  std::shared_ptr<Transfer> onward;
  bool must_be_one = false;  ///< The answer is a flag that nobody waits for; 0 is a failure.
  bool is_read = false;      ///< `into` is read after Endpoint::wait_for_reads().

  /// Set and signalled when the answer is there or, without one, when the message is sent.
  bool* done = nullptr;

  std::unique_ptr<Upload> upload;  ///< In place of all else; becomes one message or two.
  bool upload_part = false;        ///< Made of an upload: it was never counted as queued.

  std::uint64_t tail_size() const {
    if (transfer) return transfer->size();
    return file.file ? file.size : borrowed.size();
  }
  std::uint64_t body_and_tail_size() const { return body.size() + tail_size(); }
  /// Bytes that it holds in memory while it waits.
  std::uint64_t owned_size() const { return sizeof(Message) + body.size(); }
};

template <typename Request>
Message request(Command command, const Request& body) {
  Message message;
  message.command = command;
  message.body = bytes_of(body);
  return message;
}

}  // namespace rpc_pipeline
