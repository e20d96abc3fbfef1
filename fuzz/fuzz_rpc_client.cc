// The whole RPC client against a worker that answers the input: the first byte says what the client
// asks for, the rest comes in pieces, a byte with its length before each; then the connection is
// closed. Every wait ends, a read counts only if nothing was wrong before it, and the failure is
// one line that says what was wrong, never that the worker was late.
#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <netinet/in.h>
#include <span>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

#include "rpc_pipeline/client_loop.h"
#include "rpc_pipeline/endpoint.h"

namespace {

using namespace rpc_pipeline;
using namespace std::chrono_literals;

constexpr std::size_t kTensor = 100;

void require(bool holds) {
  if (!holds) std::abort();
}

/// Listens for one client after the other.
class Listener {
 public:
  Listener() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    require(::bind(fd_, generic, size) == 0 && ::listen(fd_, 4) == 0);
    require(::getsockname(fd_, generic, &size) == 0);
    address_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  }

  int accept() const { return ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC); }
  const std::string& address() const { return address_; }

 private:
  int fd_;
  std::string address_;
};

void say(int fd, std::span<const std::uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count <= 0) return;
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

/// The worker's side of one connection.
void serve(int fd, std::span<const std::uint8_t> input) {
  std::array<std::uint8_t, kReplyHeadSize + sizeof(HelloReply)> hello{};
  hello[0] = sizeof(HelloReply);
  hello[kReplyHeadSize] = kProtocolMajor;
  say(fd, hello);
  // What it asks is waited for, a byte of it at least: else the answers would come too early.
  std::array<std::uint8_t, 4096> asked;
  (void)::recv(fd, asked.data(), kRequestHeadSize + sizeof(HelloRequest), MSG_WAITALL);
  (void)::recv(fd, asked.data(), asked.size(), 0);
  while (!input.empty()) {
    const std::size_t length = std::min<std::size_t>(input[0], input.size() - 1);
    say(fd, input.subspan(1, length));
    input = input.subspan(1 + length);
  }
  ::shutdown(fd, SHUT_WR);
  while (::recv(fd, asked.data(), asked.size(), 0) > 0) {
  }
  // Without this each input would leave a socket in TIME_WAIT behind.
  const linger now{1, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  ::close(fd);
}

WireTensor tensor() {
  WireTensor tensor{};
  tensor.ne[0] = kTensor;
  return tensor;
}

Message get() {
  Message message = request(Command::kGetTensor, GetTensorRequest{tensor(), 0, kTensor});
  message.reply_size = kTensor;
  return message;
}

Message set() { return request(Command::kSetTensor, SetTensorHead{tensor(), 0, 0}); }

void post_read(Endpoint& endpoint, std::string& into) {
  Message message = get();
  message.into = reinterpret_cast<std::byte*>(into.data());
  message.is_read = true;
  endpoint.post(std::move(message));
}

void ask(Endpoint& endpoint, std::uint8_t what) {
  if ((what & 1) != 0) {
    Message copy = request(Command::kCopyTensor, CopyTensorRequest{tensor(), tensor()});
    copy.reply_size = sizeof(FlagReply);
    copy.must_be_one = true;
    endpoint.post(std::move(copy));
  }
  if ((what & 2) != 0) {
    FlagReply flag{};
    (void)endpoint.call(request(Command::kCopyTensor, CopyTensorRequest{tensor(), tensor()}), flag);
  }
  std::string first(kTensor, '?');
  std::string second(kTensor, '?');
  if ((what & 4) != 0) post_read(endpoint, first);
  if ((what & 16) != 0) post_chained(endpoint, get(), endpoint, set());
  if ((what & 8) != 0) post_read(endpoint, second);
  if ((what & 32) != 0) post_chained(endpoint, get(), endpoint, set());
  endpoint.post(request(Command::kGraphRecompute, DeviceRequest{0}));
  require(endpoint.wait_for_reads() || endpoint.lost());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Listener listener;
  if (size < 1) return 0;
  std::thread worker([&] { serve(listener.accept(), std::span(data, size).subspan(1)); });
  std::atomic<int> lines = 0;
  {
    Settings settings;
    settings.timeout = 5s;
    settings.max_held = 64;
    ClientLoop loop(settings, [&lines](const std::string& line) {
      // It closed; nothing takes so long as to be called late.
      require(line.starts_with("worker lost: ") && line.find("no answer for") == std::string::npos);
      ++lines;
    });
    Endpoint* const endpoint = loop.endpoint(listener.address());
    require(endpoint != nullptr);
    ask(*endpoint, data[0]);
  }
  worker.join();
  require(lines <= 1);
  return 0;
}
