#include "rpc_pipeline/fake_worker.h"

#include <algorithm>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

#include "rpc_pipeline/weight_hashes.h"

namespace rpc_pipeline {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kSpan = std::uint64_t{1} << 40;  // Addresses of a buffer.
constexpr std::uint64_t kMaxBody = std::uint64_t{1} << 30;
constexpr auto kLongest = 30s;

template <typename T>
T as(const std::vector<std::byte>& body) {
  T value{};
  std::memcpy(&value, body.data(), std::min(sizeof(T), body.size()));
  return value;
}

template <typename T>
std::vector<std::byte> bytes(const T& value) {
  const auto view = std::as_bytes(std::span(&value, 1));
  return {view.begin(), view.end()};
}

void set_option(int fd, int level, int name, int value) {
  ::setsockopt(fd, level, name, &value, sizeof(value));
}

bool begins_with_tensor(Command command) {
  return command == Command::kSetTensor || command == Command::kGetTensor ||
         command == Command::kSetTensorHash || command == Command::kMemsetTensor ||
         command == Command::kInitTensor || command == Command::kCopyTensor;
}

}  // namespace

FakeWorker::FakeWorker() : FakeWorker(Options()) {}

FakeWorker::FakeWorker(Options options) : options_(std::move(options)) {
  open_listener();
  thread_ = std::thread([this] { run(); });
}

FakeWorker::~FakeWorker() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    if (client_ >= 0) ::shutdown(client_, SHUT_RDWR);
    ::shutdown(listener_, SHUT_RDWR);
    changed_.notify_all();
  }
  thread_.join();
  ::close(listener_);
}

void FakeWorker::open_listener() {
  sockaddr_storage storage{};
  socklen_t size = options_.ipv6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  auto* const address = reinterpret_cast<sockaddr*>(&storage);
  if (options_.ipv6) {
    auto* const six = reinterpret_cast<sockaddr_in6*>(&storage);
    six->sin6_family = AF_INET6;
    six->sin6_addr = in6addr_loopback;
  } else {
    auto* const four = reinterpret_cast<sockaddr_in*>(&storage);
    four->sin_family = AF_INET;
    four->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  }
  listener_ = ::socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (options_.buffer_size > 0) {
    set_option(listener_, SOL_SOCKET, SO_RCVBUF, options_.buffer_size);
    set_option(listener_, SOL_SOCKET, SO_SNDBUF, options_.buffer_size);
  }
  if (::bind(listener_, address, size) != 0 || ::listen(listener_, 4) != 0)
    violate("it can't listen");
  ::getsockname(listener_, address, &size);
  const auto port = options_.ipv6 ? reinterpret_cast<sockaddr_in6*>(&storage)->sin6_port
                                  : reinterpret_cast<sockaddr_in*>(&storage)->sin_port;
  address_ = (options_.ipv6 ? "[::1]:" : "127.0.0.1:") + std::to_string(ntohs(port));
}

void FakeWorker::run() {
  if (!options_.accepts) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return stopping_; });
    return;
  }
  while (true) {
    const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    {
      const std::lock_guard lock(mutex_);
      if (fd < 0 || stopping_) {
        if (fd >= 0) ::close(fd);
        return;
      }
      client_ = fd;
    }
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    while (serve_request()) {
    }
    const std::lock_guard lock(mutex_);
    ::close(std::exchange(client_, -1));
  }
}

bool FakeWorker::serve_request() {
  std::byte head[kRequestHeadSize];
  if (!read(head)) return false;
  const auto command = static_cast<Command>(head[0]);
  std::uint64_t size = 0;
  std::memcpy(&size, head + 1, sizeof(size));
  if (name_of(command) == "?" || size > kMaxBody) {
    violate("a request of " + std::to_string(size) + " bytes to command " +
            std::to_string(std::to_integer<int>(head[0])));
    return false;
  }
  const std::optional<Fault> fault = planned(command);
  Body body(size);
  const std::span whole(body);
  if (!read(whole.first(size / 2))) return false;
  if (fault == Fault::kCloseInBody) return false;
  if (fault == Fault::kHoldInBody) hold();
  if (!read(whole.subspan(size / 2))) return false;
  if (fault == Fault::kClose) return false;
  if (fault == Fault::kReset) {
    const linger now{1, 0};
    ::setsockopt(client_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    return false;
  }
  if (fault == Fault::kHold) hold();
  auto reply = handle(command, body);
  {
    const std::lock_guard lock(mutex_);
    Served served{.command = command, .size = size};
    if (begins_with_tensor(command)) served.tensor = as<WireTensor>(body).id;
    if (command == Command::kSetTensor) served.keep = as<SetTensorHead>(body).keep != 0;
    served_.push_back(served);
    changed_.notify_all();
  }
  return !reply || answer(command, *reply, fault);
}

bool FakeWorker::read(std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const std::size_t wanted =
        options_.read_piece > 0 ? std::min(options_.read_piece, bytes.size()) : bytes.size();
    const ssize_t count = ::recv(client_, bytes.data(), wanted, 0);
    if (count <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    bytes_read_ += static_cast<std::uint64_t>(count);
    if (options_.read_piece > 0) wait(options_.pause);
  }
  return true;
}

bool FakeWorker::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const std::size_t wanted =
        options_.answer_piece > 0 ? std::min(options_.answer_piece, bytes.size()) : bytes.size();
    // In pieces also where it sends all, so that bytes_sent() keeps up.
    const ssize_t count =
        ::send(client_, bytes.data(), std::min<std::size_t>(wanted, 64 << 10), MSG_NOSIGNAL);
    if (count <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    bytes_sent_ += static_cast<std::uint64_t>(count);
    if (options_.answer_piece > 0) wait(options_.pause);
  }
  return true;
}

bool FakeWorker::answer(Command command, const Body& body, std::optional<Fault> fault) {
  const std::size_t size = fault == Fault::kLonger                     ? body.size() + 1
                           : fault == Fault::kShorter && !body.empty() ? body.size() - 1
                                                                       : body.size();
  Body sent = bytes(std::uint64_t{size});
  sent.reserve(kReplyHeadSize + size);
  sent.insert(sent.end(), body.begin(), body.end());
  sent.resize(kReplyHeadSize + size);
  if (fault == Fault::kBadFlag) sent.back() = std::byte{7};
  if (fault == Fault::kUnasked) sent.resize(2 * sent.size());
  if (options_.together > 1 && command != Command::kHello) {
    unsent_.insert(unsent_.end(), sent.begin(), sent.end());
    if (++unsent_count_ < options_.together) return true;
    unsent_count_ = 0;
    sent = std::exchange(unsent_, {});
  }
  const std::span whole(sent);
  const std::size_t middle = kReplyHeadSize + (sent.size() - kReplyHeadSize) / 2;
  if (!write(whole.first(middle))) return false;
  if (fault == Fault::kCloseInAnswer) return false;
  if (fault == Fault::kHoldInAnswer) hold();
  return write(whole.subspan(middle));
}

std::optional<FakeWorker::Body> FakeWorker::handle(Command command, const Body& body) {
  std::chrono::milliseconds delay{0};
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = delays_.find(command); found != delays_.end()) delay = found->second;
  }
  wait(delay);
  switch (command) {
    case Command::kHello:
      if (!options_.greets) hold();
      if (!options_.greeting.empty()) {
        write(std::as_bytes(std::span(options_.greeting)));
        return std::nullopt;
      }
      return bytes(options_.hello);
    case Command::kDeviceCount:
      return bytes(DeviceCountReply{1});
    case Command::kGetAlignment:
      return bytes(NumberReply{32});
    case Command::kGetMaxSize:
    case Command::kGetAllocSize:
      return bytes(NumberReply{std::uint64_t{1} << 32});
    case Command::kGetDeviceMemory:
      return bytes(MemoryReply{1 << 20, 2 << 20});
    default:
      return handle_memory(command, body);
  }
}

std::optional<FakeWorker::Body> FakeWorker::handle_memory(Command command, const Body& body) {
  const std::lock_guard lock(mutex_);
  switch (command) {
    case Command::kAllocBuffer: {
      const auto request = as<AllocRequest>(body);
      buffers_[next_id_].resize(request.size);
      return bytes(AllocReply{next_id_++, request.size});
    }
    case Command::kBufferGetBase:
      return bytes(NumberReply{as<BufferRequest>(body).buffer * kSpan});
    case Command::kFreeBuffer:
      buffers_.erase(std::uint64_t{as<BufferRequest>(body).buffer});
      return std::nullopt;
    case Command::kBufferClear: {
      const auto request = as<ClearRequest>(body);
      std::ranges::fill(buffers_[std::uint64_t{request.buffer}], std::byte{request.value});
      return std::nullopt;
    }
    case Command::kSetTensor:
      set_tensor(body);
      return std::nullopt;
    case Command::kSetTensorHash:
      return set_tensor_hash(body);
    case Command::kGetTensor: {
      const auto request = as<GetTensorRequest>(body);
      const auto from = memory(request.tensor, request.offset, request.size);
      return Body(from.begin(), from.end());
    }
    case Command::kMemsetTensor: {
      const auto request = as<MemsetRequest>(body);
      std::ranges::fill(memory(request.tensor, request.offset, request.size),
                        std::byte{request.value});
      return std::nullopt;
    }
    case Command::kCopyTensor: {
      const auto request = as<CopyTensorRequest>(body);
      if (!options_.copies) return bytes(FlagReply{0});
      const auto from = memory(request.source, 0, request.source.ne[0]);
      std::ranges::copy(from, memory(request.destination, 0, from.size()).begin());
      return bytes(FlagReply{1});
    }
    case Command::kGraphCompute: {
      if (body.size() != sizeof(Step)) return std::nullopt;
      const auto step = as<Step>(body);
      for (std::byte& byte : memory(step.tensor, 0, step.tensor.ne[0])) {
        byte = static_cast<std::byte>(std::to_integer<unsigned>(byte) * 3 + step.add);
      }
      return std::nullopt;
    }
    default:
      return std::nullopt;
  }
}

void FakeWorker::set_tensor(const Body& body) {
  const auto head = as<SetTensorHead>(body);
  if (body.size() < sizeof(head)) {
    violation_ = "SET_TENSOR without its head";
    return;
  }
  const std::span data = std::span(body).subspan(sizeof(head));
  const auto to = memory(head.tensor, head.offset, data.size());
  if (to.size() == data.size()) std::ranges::copy(data, to.begin());
  if (head.keep != 0) cache_[fnv1a(data)].assign(data.begin(), data.end());
}

FakeWorker::Body FakeWorker::set_tensor_hash(const Body& body) {
  const auto request = as<SetTensorHashRequest>(body);
  const auto found = cache_.find(std::uint64_t{request.hash});
  if (found == cache_.end()) return bytes(FlagReply{0});
  std::ranges::copy(found->second,
                    memory(request.tensor, request.offset, found->second.size()).begin());
  return bytes(FlagReply{1});
}

std::optional<FakeWorker::Fault> FakeWorker::planned(Command command) {
  const std::lock_guard lock(mutex_);
  for (auto planned = plan_.begin(); planned != plan_.end(); ++planned) {
    if (planned->command != command || planned->skip-- > 0) continue;
    const Fault fault = planned->fault;
    plan_.erase(planned);
    return fault;
  }
  return std::nullopt;
}

void FakeWorker::hold() {
  std::unique_lock lock(mutex_);
  held_ = true;
  changed_.notify_all();
  const std::uint64_t before = releases_;
  changed_.wait(lock, [&] { return stopping_ || releases_ != before; });
  held_ = false;
}

void FakeWorker::wait(std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  if (time.count() > 0) changed_.wait_for(lock, time, [this] { return stopping_; });
}

std::span<std::byte> FakeWorker::memory(const WireTensor& tensor, std::uint64_t offset,
                                        std::uint64_t size) {
  const std::uint64_t buffer = tensor.buffer;  // No reference to a packed member.
  const auto found = buffers_.find(buffer);
  const std::uint64_t begin = tensor.data + offset - buffer * kSpan;
  if (found == buffers_.end() || begin > found->second.size() ||
      size > found->second.size() - begin) {
    violation_ = "memory that it doesn't have";
    return {};
  }
  return std::span(found->second).subspan(begin, size);
}

void FakeWorker::violate(const std::string& what) {
  const std::lock_guard lock(mutex_);
  violation_ = what;
}

WireTensor FakeWorker::add_tensor(std::uint64_t size) {
  const std::lock_guard lock(mutex_);
  WireTensor tensor{};
  tensor.id = next_id_;
  tensor.buffer = next_id_++;
  tensor.data = tensor.buffer * kSpan;
  tensor.ne[0] = static_cast<std::uint32_t>(size);
  tensor.nb[0] = 1;
  buffers_[std::uint64_t{tensor.buffer}].resize(size);
  return tensor;
}

std::string FakeWorker::content(const WireTensor& tensor) const {
  const std::lock_guard lock(mutex_);
  const auto& bytes = buffers_.at(std::uint64_t{tensor.buffer});
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void FakeWorker::set_content(const WireTensor& tensor, const std::string& bytes) {
  const std::lock_guard lock(mutex_);
  const auto view = std::as_bytes(std::span(bytes));
  buffers_.at(std::uint64_t{tensor.buffer}).assign(view.begin(), view.end());
}

void FakeWorker::fail_at(Command command, Fault fault, int skip) {
  const std::lock_guard lock(mutex_);
  plan_.push_back({command, fault, skip});
}

void FakeWorker::set_delay(Command command, std::chrono::milliseconds delay) {
  const std::lock_guard lock(mutex_);
  delays_[command] = delay;
}

void FakeWorker::release() {
  const std::lock_guard lock(mutex_);
  ++releases_;
  changed_.notify_all();
}

void FakeWorker::drop_client() {
  const std::lock_guard lock(mutex_);
  if (client_ >= 0) ::shutdown(client_, SHUT_RDWR);
}

bool FakeWorker::wait_until_held() {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kLongest, [this] { return held_; });
}

bool FakeWorker::wait_until_served(std::size_t count) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kLongest, [&] { return served_.size() >= count; });
}

std::vector<FakeWorker::Served> FakeWorker::served() const {
  const std::lock_guard lock(mutex_);
  return served_;
}

std::size_t FakeWorker::served(Command command) const {
  const std::lock_guard lock(mutex_);
  return static_cast<std::size_t>(std::ranges::count(served_, command, &Served::command));
}

std::string FakeWorker::violation() const {
  const std::lock_guard lock(mutex_);
  return violation_;
}

void FakeWorker::cache(std::uint64_t hash, const std::string& bytes) {
  const std::lock_guard lock(mutex_);
  const auto view = std::as_bytes(std::span(bytes));
  cache_[hash].assign(view.begin(), view.end());
}

bool FakeWorker::has_cached(std::uint64_t hash) const {
  const std::lock_guard lock(mutex_);
  return cache_.contains(hash);
}

}  // namespace rpc_pipeline
