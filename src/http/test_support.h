// Helpers of the tests of src/http: raw sockets, so that they don't rest on the code they test.
#pragma once

#include <arpa/inet.h>
#include <chrono>
#include <future>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>

#include "base/unique_fd.h"
#include "io/task.h"

namespace yoke::http::testing {

// A blocking client socket on 127.0.0.1; every receive gives up after five seconds.
class RawClient {
 public:
  explicit RawClient(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    timeval limit{5, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
  explicit RawClient(UniqueFd fd) : fd_(std::move(fd)), connected_(true) {}

  bool connected() const { return connected_; }
  bool send(std::string_view text) {
    while (!text.empty()) {
      const ssize_t sent = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  // Receives until `end` has appeared; what came after it stays for the next call.
  std::string receive_until(std::string_view end) {
    std::size_t at;
    while ((at = pending_.find(end)) == std::string::npos) {
      if (!receive_more()) return std::exchange(pending_, {});
    }
    std::string text = pending_.substr(0, at + end.size());
    pending_.erase(0, text.size());
    return text;
  }
  // What is there already, or the next thing that arrives.
  std::string receive_some() {
    if (pending_.empty()) receive_more();
    return std::exchange(pending_, {});
  }
  std::string receive_all() {
    while (receive_more()) {
    }
    return std::exchange(pending_, {});
  }
  void close() { fd_.reset(); }
  int fd() const { return fd_.get(); }

 private:
  bool receive_more() {
    char piece[16384];
    const ssize_t got = ::recv(fd_.get(), piece, sizeof piece, 0);
    if (got <= 0) return false;
    pending_.append(piece, static_cast<std::size_t>(got));
    return true;
  }

  UniqueFd fd_;
  bool connected_ = false;
  std::string pending_;
};

// A listening socket whose connections the test serves by hand.
class RawServer {
 public:
  RawServer() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), size);
    ::listen(fd_.get(), 16);
    ::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
  }
  std::uint16_t port() const { return port_; }
  RawClient accept() {
    UniqueFd fd(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    timeval limit{5, 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return RawClient(std::move(fd));
  }

 private:
  UniqueFd fd_;
  std::uint16_t port_ = 0;
};

// Runs a task to its end on a context of its own, at most ten seconds.
template <class T>
T run_task(io::Task<T> task) {
  boost::asio::io_context context;
  auto result = boost::asio::co_spawn(context, std::move(task), boost::asio::use_future);
  context.run_for(std::chrono::seconds(10));
  if (result.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
    throw std::runtime_error("the task did not end in time");
  }
  return result.get();
}

}  // namespace yoke::http::testing
