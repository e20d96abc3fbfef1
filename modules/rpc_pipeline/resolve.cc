#include "rpc_pipeline/resolve.h"

#include <csignal>
#include <future>
#include <pthread.h>
#include <sys/socket.h>
#include <thread>
#include <utility>

namespace rpc_pipeline {
namespace {

Resolved look_up(const std::string& host, const std::string& port, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* list = nullptr;
  const int error = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &list);
  if (error != 0) return {nullptr, ::gai_strerror(error)};
  return {std::shared_ptr<const addrinfo>(list, [](addrinfo* first) { ::freeaddrinfo(first); }),
          {}};
}

void take_no_signals() {
  sigset_t all;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

}  // namespace

Resolved within(std::chrono::steady_clock::time_point deadline, std::function<Resolved()> lookup) {
  std::promise<Resolved> promise;
  std::future<Resolved> found = promise.get_future();
  std::thread([promise = std::move(promise), lookup = std::move(lookup)]() mutable {
    take_no_signals();
    promise.set_value(lookup());
  }).detach();
  if (found.wait_until(deadline) != std::future_status::ready) {
    return {nullptr, "the name server does not answer"};
  }
  return found.get();
}

Resolved resolve(const std::string& host, const std::string& port,
                 std::chrono::steady_clock::time_point deadline) {
  Resolved numeric = look_up(host, port, AI_NUMERICHOST);
  if (numeric.addresses) return numeric;
  return within(deadline, [host, port] { return look_up(host, port, 0); });
}

}  // namespace rpc_pipeline
