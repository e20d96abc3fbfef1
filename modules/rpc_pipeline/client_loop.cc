#include "rpc_pipeline/client_loop.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <new>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utility>

#include "rpc_pipeline/connect.h"
#include "rpc_pipeline/connection.h"
#include "rpc_pipeline/drain.h"

namespace rpc_pipeline {
namespace {

constexpr int kDeadlineLookMs = 100;
constexpr unsigned kHashThreads = 4;

}  // namespace

ClientLoop::ClientLoop(Settings settings, Log log)
    : settings_(std::move(settings)),
      log_(std::move(log)),
      hashes_(settings_.hashes),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = nullptr;
  ::epoll_ctl(epoll_, EPOLL_CTL_ADD, event_, &event);
}

ClientLoop::~ClientLoop() {
  thread_.request_stop();
  wake();
  if (thread_.joinable()) thread_.join();
  pool_.reset();
  ::close(event_);
  ::close(epoll_);
}

Endpoint* ClientLoop::endpoint(const std::string& address) {
  if (Endpoint* const known = find(address)) return known;
  const std::lock_guard connecting(connecting_);
  if (Endpoint* const known = find(address)) return known;
  if (epoll_ < 0 || event_ < 0 || failed()) return nullptr;
  auto endpoint = std::make_unique<Endpoint>(*this, address, settings_.max_queued);
  const Connected connected = connect_worker(address, settings_.connect_timeout);
  if (connected.fd < 0) {
    log_("cannot use worker " + subject(*endpoint) + ": " + connected.error);
    return nullptr;
  }
  auto connection = std::make_unique<Connection>(*this, *endpoint, connected.fd);
  if (!thread_.joinable()) start_thread();
  const std::lock_guard lock(mutex_);
  if (!failure_.empty()) return nullptr;
  fresh_.push_back(std::move(connection));
  endpoints_.push_back(std::move(endpoint));
  wake();
  return endpoints_.back().get();
}

Endpoint* ClientLoop::find(const std::string& address) const {
  const std::lock_guard lock(mutex_);
  for (const auto& known : endpoints_) {
    if (known->address() == address) return known.get();
  }
  return nullptr;
}

// The thread takes no signals: they are for the program's own threads.
void ClientLoop::start_thread() {
  struct Blocked {
    sigset_t before{};
    Blocked() {
      sigset_t all;
      sigfillset(&all);
      ::pthread_sigmask(SIG_SETMASK, &all, &before);
    }
    ~Blocked() { ::pthread_sigmask(SIG_SETMASK, &before, nullptr); }
    Blocked(const Blocked&) = delete;
    Blocked& operator=(const Blocked&) = delete;
  };
  const Blocked blocked;
  thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
  ::pthread_setname_np(thread_.native_handle(), "yoke-rpc");
}

std::string ClientLoop::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void ClientLoop::give_up(const Endpoint& culprit, const std::string& reason) {
  lose(culprit, reason);
  wake();
}

void ClientLoop::lose(const Endpoint& culprit, const std::string& reason) {
  fail("worker lost: " + subject(culprit) + ": " + reason);
}

std::string ClientLoop::subject(const Endpoint& endpoint) const {
  return settings_.name_of(endpoint.address()) + " (" + endpoint.address() + ")";
}

void ClientLoop::wake() {
  if (signalled_.exchange(true)) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(event_, &one, sizeof(one));
}

void ClientLoop::run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    try {
      turn(sleep_ms());
    } catch (const std::bad_alloc&) {
      fail("out of memory");
      close_all();
    }
    if (!leaving_.empty()) {
      drain(std::exchange(leaving_, {}), settings_.timeout,
            [&stop] { return stop.stop_requested(); });
    }
  }
  connections_.clear();
}

int ClientLoop::sleep_ms() const {
  const auto owes = [](const auto& connection) { return connection->owes(); };
  return !closed_ && std::any_of(connections_.begin(), connections_.end(), owes) ? kDeadlineLookMs
                                                                                 : -1;
}

void ClientLoop::turn(int timeout_ms) {
  std::array<epoll_event, 32> events;
  // Before the wait: what had come by then is dealt with before anybody is found late.
  const auto now = Connection::Clock::now();
  const int count =
      ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), timeout_ms);
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    auto* const connection = static_cast<Connection*>(event.data.ptr);
    if (connection == nullptr) drain_event();
    if (closed_ || failed()) continue;
    if (connection == nullptr) {
      on_wake();
    } else {
      if ((event.events & (EPOLLHUP | EPOLLERR)) != 0) connection->on_hang_up();
      if ((event.events & EPOLLIN) != 0) connection->on_readable();
      if ((event.events & EPOLLOUT) != 0) connection->on_writable();
    }
  }
  if (closed_) return;
  if (!failed()) check_deadlines(now);
  if (failed()) close_all();
}

void ClientLoop::drain_event() {
  std::uint64_t value = 0;
  [[maybe_unused]] const ssize_t size = ::read(event_, &value, sizeof(value));
  signalled_ = false;
}

void ClientLoop::on_wake() {
  std::vector<Hashed> hashed;
  {
    const std::lock_guard lock(mutex_);
    hashed = std::exchange(hashed_, {});
    for (auto& fresh : fresh_) {
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.ptr = fresh.get();
      ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fresh->fd(), &event);
      connections_.push_back(std::move(fresh));
    }
    fresh_.clear();
  }
  for (const Hashed& result : hashed) result.connection->on_hash(result.upload, result.hash);
  for (const auto& connection : connections_) connection->take();
}

void ClientLoop::check_deadlines(Connection::Clock::time_point now) {
  for (const auto& connection : connections_) {
    if (const auto reason = connection->overdue(now, settings_.timeout)) {
      return lose(connection->endpoint(), *reason);
    }
  }
}

// Only the first failure counts and is logged: those that follow are its consequence.
void ClientLoop::fail(std::string line) {
  {
    const std::lock_guard lock(mutex_);
    if (!failure_.empty()) return;
    failure_ = line;
    failed_ = true;
  }
  log_(line);
}

void ClientLoop::close_all() {
  closed_ = true;
  for (const auto& connection : connections_) {
    ::epoll_ctl(epoll_, EPOLL_CTL_DEL, connection->fd(), nullptr);
    leaving_.push_back(connection->release_fd());
  }
  connections_.clear();
  const std::lock_guard lock(mutex_);
  fresh_.clear();
  for (const auto& endpoint : endpoints_) endpoint->on_lost();
}

void ClientLoop::set_interest(Connection& connection, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = &connection;
  ::epoll_ctl(epoll_, EPOLL_CTL_MOD, connection.fd(), &event);
}

void ClientLoop::hash(Connection& connection, std::uint64_t upload, const FileRange& range) {
  if (!pool_) pool_.emplace(hashes_, kHashThreads);
  pool_->hash(range, [this, &connection, upload](std::optional<std::uint64_t> hash) {
    {
      const std::lock_guard lock(mutex_);
      hashed_.push_back({&connection, upload, hash});
    }
    wake();
  });
}

}  // namespace rpc_pipeline
