// What tests of the client share: a client that notes what it logs, and requests by content.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "rpc_pipeline/client_loop.h"
#include "rpc_pipeline/endpoint.h"
#include "rpc_pipeline/fake_worker.h"
#include "rpc_pipeline/file_test_support.h"
#include "rpc_pipeline/watchdog_test_support.h"

namespace rpc_pipeline {

class Client {
 public:
  explicit Client(Settings settings = {})
      : loop_(std::move(settings), [this](const std::string& line) {
          const std::lock_guard lock(mutex_);
          lines_.push_back(line);
        }) {}

  ClientLoop& loop() { return loop_; }

  Endpoint& at(const FakeWorker& worker) {
    Endpoint* const endpoint = loop_.endpoint(worker.address());
    if (endpoint == nullptr) {
      std::fputs("a fake worker can't be used\n", stderr);
      std::abort();
    }
    return *endpoint;
  }

  std::vector<std::string> lines() const {
    const std::lock_guard lock(mutex_);
    return lines_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
  ClientLoop loop_;
};

inline Settings settings_with(std::chrono::milliseconds timeout) {
  Settings settings;
  settings.timeout = timeout;
  return settings;
}

inline std::uint64_t size_of(const WireTensor& tensor) { return tensor.ne[0]; }

/// SET_TENSOR that owns its data.
inline Message set_message(const WireTensor& tensor, const std::string& bytes,
                           std::uint64_t offset = 0) {
  SetTensorHead head{};
  head.tensor = tensor;
  head.offset = offset;
  Message message;
  message.command = Command::kSetTensor;
  message.body = Bytes(sizeof(head) + bytes.size());
  std::memcpy(message.body.data(), &head, sizeof(head));
  std::memcpy(message.body.data() + sizeof(head), bytes.data(), bytes.size());
  return message;
}

/// SET_TENSOR with the caller's data, or the begin of one whose data comes from another worker.
inline Message set_head(const WireTensor& tensor, std::span<const std::byte> borrowed = {}) {
  SetTensorHead head{};
  head.tensor = tensor;
  Message message = request(Command::kSetTensor, head);
  message.borrowed = borrowed;
  return message;
}

inline Message get_message(const WireTensor& tensor, std::uint64_t size) {
  GetTensorRequest body{};
  body.tensor = tensor;
  body.size = size;
  Message message = request(Command::kGetTensor, body);
  message.reply_size = size;
  return message;
}

inline Message step_message(const WireTensor& tensor, std::uint8_t add) {
  return request(Command::kGraphCompute, FakeWorker::Step{tensor, add});
}

inline void chain(Endpoint& source, const WireTensor& from, Endpoint& destination,
                  const WireTensor& to) {
  post_chained(source, get_message(from, size_of(from)), destination, set_head(to));
}

/// Posts a read into `into`, which wait_for_reads() waits for.
inline void post_read(Endpoint& endpoint, const WireTensor& tensor, std::string& into) {
  into.assign(size_of(tensor), '?');
  Message message = get_message(tensor, into.size());
  message.into = reinterpret_cast<std::byte*>(into.data());
  message.is_read = true;
  endpoint.post(std::move(message));
}

/// Reads and waits; nothing if the worker was lost.
inline std::optional<std::string> read(Endpoint& endpoint, const WireTensor& tensor) {
  std::string into(size_of(tensor), '?');
  Message message = get_message(tensor, into.size());
  message.into = reinterpret_cast<std::byte*>(into.data());
  if (!endpoint.call(std::move(message))) return std::nullopt;
  return into;
}

/// Like noise(), and made faster: what is much repeats itself, though not at a power of two.
inline std::string much_noise(std::size_t size, std::uint64_t seed = 1) {
  const std::string part = noise(100'003, seed);
  std::string text;
  text.reserve(size);
  while (text.size() < size) text.append(part, 0, size - text.size());
  return text;
}

inline std::span<const std::byte> view(const std::string& text) {
  return std::as_bytes(std::span(text));
}

/// Looks again and again, for some seconds.
template <typename Condition>
bool eventually(Condition condition) {
  for (int i = 0; i < 3000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(10ms);
  }
  return false;
}

}  // namespace rpc_pipeline
