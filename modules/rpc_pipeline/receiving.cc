// Answers of a worker, and where they go.

#include <algorithm>
#include <cerrno>
#include <sys/socket.h>
#include <system_error>
#include <utility>

#include "rpc_pipeline/client_loop.h"
#include "rpc_pipeline/connection.h"

namespace rpc_pipeline {

void Connection::on_readable() {
  std::uint64_t turn = 0;
  std::uint64_t count = 0;
  // Once something is wrong, what comes after it is not to be trusted.
  while (turn < kTurn && !loop_.failed() && receive_some(count)) turn += count;
}

// Both directions are shut. What can be read tells why; a paused connection is not read.
void Connection::on_hang_up() {
  if (paused_) return fail("connection closed by the worker");
  on_readable();
}

// One recv(). False when there is nothing more to read for now, or ever.
bool Connection::receive_some(std::uint64_t& count) {
  const std::span<std::byte> room = destination();
  if (paused_) return false;
  const ssize_t got = ::recv(fd_, room.data(), room.size(), MSG_DONTWAIT);
  if (got < 0) {
    if (errno != EAGAIN && errno != EINTR) fail(std::generic_category().message(errno));
    return false;
  }
  if (got == 0) {
    fail("connection closed by the worker");
    return false;
  }
  count = static_cast<std::uint64_t>(got);
  last_received_ = Clock::now();
  return accept(count);
}

// Where the next bytes belong.
std::span<std::byte> Connection::destination() {
  if (reader_.wants() != ReplyReader::Wants::kBody) {
    const auto size = reader_.wants() == ReplyReader::Wants::kHead ? reader_.remaining() : 1;
    return std::span(head_).first(static_cast<std::size_t>(size));
  }
  Due& due = due_.front();
  if (!due.onward) return {due.into + body_read_, static_cast<std::size_t>(reader_.remaining())};
  if (held_ >= loop_.settings_.max_held && !due.onward->within_one) {
    paused_ = true;
    update_interest();
    return {};
  }
  due.onward->source = this;
  return due.onward->room(loop_.blocks_);
}

bool Connection::accept(std::uint64_t count) {
  if (reader_.wants() != ReplyReader::Wants::kBody) {
    if (reader_.wants() == ReplyReader::Wants::kNothing || due_sent_ == 0) {
      fail("it sent bytes that nobody asked for");
      return false;
    }
    const auto error = reader_.accept_head(std::span(head_).first(static_cast<std::size_t>(count)));
    if (error) {
      fail(*error);
      return false;
    }
    if (reader_.wants() != ReplyReader::Wants::kBody || reader_.remaining() > 0) return true;
    count = 0;  // An empty body is whole already.
  }
  body_read_ += count;
  const std::shared_ptr<Transfer> onward = due_.front().onward;
  if (onward) {
    onward->received(static_cast<std::size_t>(count));
    held_ += count;
  }
  if (reader_.accept_body(count)) finish_answer();
  if (onward && onward->destination != nullptr) onward->destination->send();
  return true;
}

void Connection::finish_answer() {
  Due due = std::move(due_.front());
  due_.pop_front();
  --due_sent_;
  body_read_ = 0;
  if (due.must_be_one && flag_.flag != 1)
    return fail("it refused to copy a tensor between its devices");
  if (!due.asked) return endpoint_.on_answer(due.done, due.is_read);
  if (const auto error = check(flag_)) return fail(*error);
  on_asked(std::move(due.asked), flag_.flag);
}

// Bytes that were read here have been passed on.
void Connection::released(std::uint64_t count) {
  held_ -= count;
  if (!paused_ || held_ >= loop_.settings_.max_held) return;
  paused_ = false;
  last_received_ = Clock::now();  // What it owes counts from here again.
  update_interest();
}

void Connection::fail(const std::string& reason) { loop_.lose(endpoint_, reason); }

}  // namespace rpc_pipeline
