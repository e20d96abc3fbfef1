#include "rpc_pipeline/connection.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <iterator>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "rpc_pipeline/client_loop.h"

namespace rpc_pipeline {
namespace {

constexpr std::uint64_t kFileChunk = std::uint64_t{1} << 20;
constexpr std::uint64_t kReadAhead = std::uint64_t{16} << 20;
constexpr std::size_t kMaxPieces = 48;

// Pieces of memory for one sendmsg().
class Pieces {
 public:
  bool full() const { return count_ + 3 > pieces_.size(); }
  std::uint64_t bytes() const { return bytes_; }

  void add(std::span<const std::byte> piece) {
    if (piece.empty()) return;
    pieces_[count_++] = {const_cast<std::byte*>(piece.data()), piece.size()};
    bytes_ += piece.size();
  }

  msghdr header() {
    msghdr header{};
    header.msg_iov = pieces_.data();
    header.msg_iovlen = count_;
    return header;
  }

 private:
  std::array<iovec, kMaxPieces> pieces_{};
  std::size_t count_ = 0;
  std::uint64_t bytes_ = 0;
};

// By a SET_TENSOR, or a graph that stands for one.
MemoryRange written_by(const Message& message) {
  if (message.fills) return *message.fills;
  SetTensorHead head;
  std::memcpy(&head, message.body.data(), sizeof(head));
  const std::uint64_t begin = head.tensor.data + head.offset;
  return {begin, begin + message.body_and_tail_size() - sizeof(head)};
}

std::span<const std::byte> rest(std::span<const std::byte> whole, std::uint64_t done) {
  return done >= whole.size() ? std::span<const std::byte>()
                              : whole.subspan(static_cast<std::size_t>(done));
}

}  // namespace

Connection::Connection(ClientLoop& loop, Endpoint& endpoint, int fd)
    : loop_(loop),
      endpoint_(endpoint),
      fd_(fd),
      interest_(EPOLLIN),
      last_sent_(Clock::now()),
      last_received_(last_sent_) {}

Connection::~Connection() {
  if (fd_ >= 0) ::close(fd_);
}

void Connection::take() {
  for (Message& message : endpoint_.take()) waiting_.push_back(std::move(message));
  admit();
  send();
}

// Passes on what needs not wait for uploads. An upload may overtake another one: they are of
// different tensors. Nothing else overtakes an upload, nor does an upload overtake anything else.
void Connection::admit() {
  constexpr std::size_t kOpenUploads = 8;
  while (!waiting_.empty()) {
    Message& next = waiting_.front();
    if (open_uploads_ >= (next.upload ? kOpenUploads : 1)) return;
    Message message = std::move(next);
    waiting_.pop_front();
    if (message.upload) {
      endpoint_.on_sent(message.owned_size(), nullptr);
      start(std::move(message.upload));
    } else {
      enqueue(std::move(message));
    }
  }
}

void Connection::enqueue(Message message) {
  if (message.reply_size) {
    reader_.expect(message.command, *message.reply_size);
    Due due;
    due.into = message.into;
    due.onward = message.onward;
    due.done = message.done;
    due.is_read = message.is_read;
    due.asked = std::move(message.upload);
    due.must_be_one = message.must_be_one;
    if (due.asked || due.must_be_one) due.into = reinterpret_cast<std::byte*>(&flag_);
    due_.push_back(std::move(due));
  }
  Outgoing outgoing;
  const std::uint64_t size = message.body_and_tail_size();
  outgoing.head[0] = static_cast<std::byte>(message.command);
  std::copy_n(reinterpret_cast<const std::byte*>(&size), sizeof(size), outgoing.head.begin() + 1);
  outgoing.message = std::move(message);
  if (sending_.empty()) last_sent_ = Clock::now();
  const auto place = place_of(outgoing.message);
  sending_.insert(place, std::move(outgoing));
}

// The end, but data that is at hand goes before data that still has to come from another worker:
// this one takes it in meanwhile. They are of different tensors, and nothing is computed between.
std::deque<Connection::Outgoing>::iterator Connection::place_of(const Message& message) {
  auto place = sending_.end();
  const bool sets = message.command == Command::kSetTensor || message.fills;
  if (!sets || message.transfer || message.file.file) return place;
  const MemoryRange written = written_by(message);
  while (place != sending_.begin()) {
    const auto before = std::prev(place);
    const bool awaited =
        before->message.transfer && before->sent == 0 && before->message.transfer->held() == 0;
    if (!awaited || written.overlaps(written_by(before->message))) break;
    place = before;
  }
  return place;
}

void Connection::on_writable() { send(); }

void Connection::send() {
  std::uint64_t turn = 0;
  while (!sending_.empty() && turn < kTurn) {
    std::uint64_t count = 0;
    const Sent sent = send_some(count);
    if (sent == Sent::kFailed) return;
    turn += count;
    if (sent == Sent::kBlocked) return want_write(true);
    if (sent == Sent::kStarved) return want_write(false);
  }
  want_write(!sending_.empty());
}

// Sends the front request's next bytes, and small requests behind it in the same call.
Connection::Sent Connection::send_some(std::uint64_t& count) {
  Outgoing& front = sending_.front();
  if (front.message.file.file && front.sent >= front.tail_begin()) return send_file(front, count);
  Pieces pieces;
  bool more = false;
  for (Outgoing& outgoing : sending_) {
    if (pieces.full()) break;
    const Message& message = outgoing.message;
    if (message.transfer) {
      message.transfer->destination = this;
      const bool awaited = message.transfer->held() == 0 && !message.transfer->all_sent();
      if (awaited) break;  // Its head waits too, so that others may pass.
    }
    pieces.add(rest(outgoing.head, outgoing.sent));
    pieces.add(
        rest({message.body.data(), message.body.size()},
             outgoing.sent < outgoing.head.size() ? 0 : outgoing.sent - outgoing.head.size()));
    if (message.transfer) {
      const std::span<const std::byte> ready = message.transfer->ready();
      pieces.add(ready);
      const std::uint64_t tail_sent =
          outgoing.sent < outgoing.tail_begin() ? 0 : outgoing.sent - outgoing.tail_begin();
      if (tail_sent + ready.size() < message.transfer->size()) break;
      continue;
    }
    more = message.file.file != nullptr;
    if (more) break;
    pieces.add(rest(message.borrowed, outgoing.sent < outgoing.tail_begin()
                                          ? 0
                                          : outgoing.sent - outgoing.tail_begin()));
  }
  if (pieces.bytes() == 0) return Sent::kStarved;
  const msghdr header = pieces.header();
  const ssize_t sent = ::sendmsg(fd_, &header, MSG_NOSIGNAL | MSG_DONTWAIT | (more ? MSG_MORE : 0));
  if (sent < 0) {
    if (errno == EAGAIN || errno == EINTR) return Sent::kBlocked;
    fail(std::generic_category().message(errno));
    return Sent::kFailed;
  }
  count = static_cast<std::uint64_t>(sent);
  advance(count);
  return Sent::kSome;
}

Connection::Sent Connection::send_file(Outgoing& outgoing, std::uint64_t& count) {
  const FileRange& range = outgoing.message.file;
  const std::uint64_t done = outgoing.sent - outgoing.tail_begin();
  const auto wanted = std::min(range.size - done, kFileChunk);
  auto offset = static_cast<off_t>(range.offset + done);
  if (outgoing.advised < range.size && done + kReadAhead > outgoing.advised) {
    const std::uint64_t next = std::min(range.size - outgoing.advised, kReadAhead);
    ::posix_fadvise(range.file->fd, static_cast<off_t>(range.offset + outgoing.advised),
                    static_cast<off_t>(next), POSIX_FADV_WILLNEED);
    outgoing.advised += next;
  }
  const ssize_t sent = ::sendfile(fd_, range.file->fd, &offset, static_cast<std::size_t>(wanted));
  if (sent < 0 && (errno == EAGAIN || errno == EINTR)) return Sent::kBlocked;
  if (sent < 0 && (errno == EPIPE || errno == ECONNRESET)) {
    fail(std::generic_category().message(errno));
    return Sent::kFailed;
  }
  if (sent <= 0) {
    const std::string why =
        sent == 0 ? "the file became shorter" : std::generic_category().message(errno);
    loop_.fail("cannot read weights: " + range.file->path + ": " + why);
    return Sent::kFailed;
  }
  count = static_cast<std::uint64_t>(sent);
  advance(count);
  return Sent::kSome;
}

void Connection::advance(std::uint64_t count) {
  last_sent_ = Clock::now();
  while (!sending_.empty()) {
    Outgoing& front = sending_.front();
    const std::uint64_t taken = std::min(count, front.size() - front.sent);
    const std::uint64_t tail_before = std::max(front.sent, front.tail_begin());
    front.sent += taken;
    count -= taken;
    if (front.message.transfer && front.sent > tail_before) {
      Transfer& transfer = *front.message.transfer;
      transfer.sent(static_cast<std::size_t>(front.sent - tail_before), loop_.blocks_);
      transfer.source->released(front.sent - tail_before);
    }
    if (front.sent < front.size()) return;
    complete(front);
    sending_.pop_front();
    if (count == 0) return;
  }
}

void Connection::complete(Outgoing& outgoing) {
  const bool answered = outgoing.message.reply_size.has_value();
  if (answered) due_[due_sent_++].sent_at = last_sent_;
  endpoint_.on_sent(outgoing.message.upload_part ? 0 : outgoing.message.owned_size(),
                    answered ? nullptr : outgoing.message.done);
}

void Connection::want_write(bool wanted) {
  if (wanted && !blocked_) last_sent_ = Clock::now();
  blocked_ = wanted;
  update_interest();
}

void Connection::update_interest() {
  const std::uint32_t interest = (paused_ ? 0U : EPOLLIN) | (blocked_ ? EPOLLOUT : 0U);
  if (interest == interest_) return;
  interest_ = interest;
  loop_.set_interest(*this, interest);
}

// Not while its answer is held up here: it takes nothing before it has sent that.
bool Connection::owes() const { return !paused_ && (blocked_ || due_sent_ > 0); }

std::optional<std::string> Connection::overdue(Clock::time_point now,
                                               std::chrono::milliseconds timeout) const {
  const std::string seconds = std::to_string((timeout.count() + 999) / 1000) + " s";
  if (!owes()) return std::nullopt;
  // While it answers it takes nothing, and yet goes on.
  if (blocked_ && now - std::max(last_sent_, last_received_) > timeout)
    return "it took no data for " + seconds;
  if (due_sent_ == 0) return std::nullopt;
  const auto since = std::max(*due_.front().sent_at, last_received_);
  if (now - since <= timeout) return std::nullopt;
  return "no answer for " + seconds + " (to " + std::string(name_of(reader_.command())) + ")";
}

}  // namespace rpc_pipeline
