#include "rpc_pipeline/endpoint.h"

#include <memory>
#include <utility>

#include "rpc_pipeline/client_loop.h"

namespace rpc_pipeline {
namespace {

// Small requests that lead up to a computation go out with it: one wake-up, one packet.
constexpr std::uint64_t kLingering = std::uint64_t{64} << 10;

bool can_linger(const Message& message) {
  const bool small_data =
      message.command == Command::kSetTensor || message.command == Command::kInitTensor;
  return small_data && !message.upload && !message.transfer && message.done == nullptr &&
         message.body.size() < kLingering;
}

}  // namespace

Endpoint::Endpoint(ClientLoop& loop, std::string address, std::uint64_t max_queued)
    : loop_(loop), address_(std::move(address)), max_queued_(max_queued) {}

bool Endpoint::enqueue(Message& message, std::unique_lock<std::mutex>& lock) {
  if (queued_ >= max_queued_ && !lost_) {
    loop_.wake();
    changed_.wait(lock, [this] { return queued_ < max_queued_ || lost_; });
  }
  if (lost_) {
    reads_missing_ |= message.is_read;
    return false;
  }
  queued_ += message.owned_size();
  reads_ += message.is_read ? 1 : 0;
  const bool wake = !can_linger(message) || queued_ >= kLingering;
  queue_.push_back(std::move(message));
  if (wake) loop_.wake();
  return true;
}

void Endpoint::post(Message message) {
  std::unique_lock lock(mutex_);
  enqueue(message, lock);
}

bool Endpoint::call(Message message) {
  bool done = false;
  message.done = &done;
  std::unique_lock lock(mutex_);
  if (!enqueue(message, lock)) return false;
  changed_.wait(lock, [this, &done] { return done || lost_; });
  return done;
}

bool Endpoint::wait_for_reads() { return wait_for_reads(reads()); }

bool Endpoint::wait_for_reads(std::uint64_t count) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this, count] { return reads_answered_ >= count; });
  return !std::exchange(reads_missing_, false);
}

std::uint64_t Endpoint::reads() const {
  const std::lock_guard lock(mutex_);
  return reads_;
}

bool Endpoint::lost() const {
  const std::lock_guard lock(mutex_);
  return lost_;
}

std::deque<Message> Endpoint::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(queue_, {});
}

void Endpoint::on_sent(std::uint64_t owned_size, bool* done) {
  const std::lock_guard lock(mutex_);
  const bool was_full = queued_ >= max_queued_;
  queued_ -= owned_size;
  if (done != nullptr) *done = true;
  if (done != nullptr || was_full) changed_.notify_all();
}

void Endpoint::on_answer(bool* done, bool is_read) {
  if (done == nullptr && !is_read) return;
  const std::lock_guard lock(mutex_);
  if (done != nullptr) *done = true;
  if (is_read) ++reads_answered_;
  changed_.notify_all();
}

void Endpoint::on_lost() {
  const std::lock_guard lock(mutex_);
  lost_ = true;
  reads_missing_ |= reads_answered_ < reads_;
  reads_answered_ = reads_;
  queue_.clear();
  changed_.notify_all();
}

void post_chained(Endpoint& source, Message get, Endpoint& destination, Message set) {
  auto transfer = std::make_shared<Transfer>(get.reply_size.value_or(0));
  transfer->within_one = &source == &destination;
  get.onward = transfer;
  set.transfer = std::move(transfer);
  // All workers see copies in one order. Else two of them could each wait for what the other one is
  // to take first.
  const std::lock_guard lock(source.loop_.copies());
  source.post(std::move(get));
  destination.post(std::move(set));
}

}  // namespace rpc_pipeline
