#include "fake_engine/server.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <system_error>
#include <thread>
#include <unistd.h>

#include "fake_engine/clock.h"
#include "fake_engine/http.h"
#include "fake_engine/log.h"
#include "fake_engine/process.h"
#include "fake_engine/reply_writer.h"
#include "fake_engine/routes.h"

namespace fake_engine {
namespace {

constexpr int kBacklog = 1024;
constexpr int64_t kStopDeadlineNs = 2 * kNsPerS;

int open_signal_fd() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

// Returns a listening socket, or -1.
int bind_and_listen(const addrinfo& address) {
  const int fd = socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, address.ai_addr, address.ai_addrlen) == 0 && listen(fd, kBacklog) == 0) return fd;
  close(fd);
  return -1;
}

int port_of(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<sockaddr_in&>(address).sin_port);
}

void refuse(Engine& engine, Connection& connection, const RequestReader& reader) {
  ++engine.counters().bad_requests;
  log_line('W', "srv    operator(): bad request: " + reader.error());
  ReplyWriter writer(connection, HttpRequest{}, false);
  writer.send_error(reader.error_status(), "invalid_request_error", reader.error());
}

// The life of one connection.
void serve_connection(Engine& engine, int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  {
    Connection connection(fd, engine.stop_fd(), engine.counters().bytes_sent);
    RequestReader reader(connection);
    const Behaviour& behaviour = engine.behaviour();
    HttpRequest request;
    for (int64_t served = 1;; ++served) {
      const ReadStatus status = reader.read(request, behaviour.keep_alive_ms);
      if (status == ReadStatus::kClosed) break;
      if (status == ReadStatus::kBad) {
        refuse(engine, connection, reader);
        connection.close_gently();
        break;
      }
      const bool may_go_on = request.keep_alive && served < behaviour.keep_alive_requests;
      ReplyWriter writer(connection, request, may_go_on);
      answer(engine, request, writer);
      if (!writer.keeps_connection()) {
        connection.close_gently();
        break;
      }
    }
  }
  engine.connection_closed();
}

}  // namespace

Server::Server(Engine& engine)
    : engine_(engine), start_ns_(monotonic_ns()), signal_fd_(open_signal_fd()) {}

Server::~Server() {
  if (listen_fd_ >= 0) close(listen_fd_);
  close(signal_fd_);
}

bool Server::listen() {
  const Options& options = engine_.options();
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* addresses = nullptr;
  const std::string port = std::to_string(options.port);
  if (getaddrinfo(options.host.c_str(), port.c_str(), &hints, &addresses) == 0) {
    listen_fd_ = bind_and_listen(*addresses);
    freeaddrinfo(addresses);
  }
  if (listen_fd_ < 0) {
    log_line('E', "srv         start: couldn't bind HTTP server socket, hostname: " + options.host +
                      ", port: " + port);
    log_line('E', "srv  llama_server: exiting due to HTTP server error");
    return false;
  }
  port_ = port_of(listen_fd_);
  log_line('I', "srv    load_model: loading model '" + options.model_path + "'");
  return true;
}

int Server::run() {
  const Behaviour& behaviour = engine_.behaviour();
  for (;;) {
    const int64_t now_ns = monotonic_ns();
    if (now_ns >= start_ns_ + behaviour.max_lifetime_s * kNsPerS) {
      log_line('W', "fake: max_lifetime_s is over");
      return stop();
    }
    if (!engine_.loaded() && !behaviour.hang_on_load &&
        now_ns >= start_ns_ + behaviour.load_ms * kNsPerMs) {
      load_model();
    }
    if (behaviour.crash_after_ms != kNever &&
        now_ns >= start_ns_ + behaviour.crash_after_ms * kNsPerMs && may_strike(behaviour)) {
      crash(behaviour);
    }
    break_down_in_time();
    pollfd fds[] = {{listen_fd_, POLLIN, 0}, {signal_fd_, POLLIN, 0}};
    const int64_t wait_ns = std::max<int64_t>(next_timer_ns() - monotonic_ns(), 0);
    const timespec timeout{wait_ns / kNsPerS, wait_ns % kNsPerS};
    if (ppoll(fds, 2, &timeout, nullptr) <= 0) continue;
    if (fds[0].revents) accept_connection();
    if (fds[1].revents && handle_signal()) return stop();
  }
}

void Server::break_down_in_time() {
  const Behaviour& behaviour = engine_.behaviour();
  const bool is_time = behaviour.break_after_ms != kNever &&
                       monotonic_ns() >= start_ns_ + behaviour.break_after_ms * kNsPerMs;
  if (break_is_over_ || !is_time) return;
  break_is_over_ = true;
  if (!may_strike(behaviour)) return;
  log_raw(behaviour.crash_log);
  engine_.break_down(500, behaviour.message.empty() ? "Compute error." : behaviour.message);
}

int64_t Server::next_timer_ns() const {
  const Behaviour& behaviour = engine_.behaviour();
  int64_t next_ns = start_ns_ + behaviour.max_lifetime_s * kNsPerS;
  if (!engine_.loaded() && !behaviour.hang_on_load) {
    next_ns = std::min(next_ns, start_ns_ + behaviour.load_ms * kNsPerMs);
  }
  if (behaviour.break_after_ms != kNever && !break_is_over_) {
    next_ns = std::min(next_ns, start_ns_ + behaviour.break_after_ms * kNsPerMs);
  }
  if (behaviour.crash_after_ms != kNever) {
    // A crash that once_file has called off must not keep the loop busy.
    const int64_t crash_ns = start_ns_ + behaviour.crash_after_ms * kNsPerMs;
    if (crash_ns > monotonic_ns()) next_ns = std::min(next_ns, crash_ns);
  }
  return next_ns;
}

void Server::accept_connection() {
  const int fd = accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return;
  engine_.connection_opened();
  try {
    std::thread(serve_connection, std::ref(engine_), fd).detach();
  } catch (const std::system_error& error) {
    log_line('E', std::string("fake: no thread for a connection: ") + error.what());
    close(fd);
    engine_.connection_closed();
  }
}

void Server::load_model() {
  const Behaviour& behaviour = engine_.behaviour();
  const std::string& path = engine_.options().model_path;
  log_raw(behaviour.load_log);
  for (int64_t line = 0; line < behaviour.log_flood_lines; ++line) {
    log_line('I', "llama_model_loader: flood line " + std::to_string(line));
  }
  if (behaviour.crash_on_load && may_strike(behaviour)) {
    if (behaviour.crash_signal == 0 && behaviour.crash_exit == kNever) {
      log_raw(behaviour.crash_log);
      fail_to_load(path);
    }
    crash(behaviour);
  }
  if (!path.empty() && access(path.c_str(), R_OK) != 0) {
    log_line('E', "gguf_init_from_file: failed to open GGUF file '" + path + "' (" +
                      std::strerror(errno) + ")");
    log_line(
        'E',
        "llama_model_load: error loading model: llama_model_loader: failed to load model from " +
            path);
    fail_to_load(path);
  }
  engine_.set_loaded();
  if (engine_.options().vllm) {
    log_raw("INFO:     Application startup complete.");
    return;
  }
  log_line('I', "srv  llama_server: model loaded");
  const std::string& host = engine_.options().host;
  const bool is_v6 = host.find(':') != std::string::npos;
  log_line('I', "srv  llama_server: listening on http://" + (is_v6 ? '[' + host + ']' : host) +
                    ':' + std::to_string(port_));
}

void Server::fail_to_load(const std::string& model_path) {
  log_line('E', "srv    load_model: failed to load model, '" + model_path + "'");
  log_line('E', "srv  llama_server: exiting due to model loading error");
  _exit(1);
}

bool Server::handle_signal() {
  signalfd_siginfo info{};
  if (read(signal_fd_, &info, sizeof info) != sizeof info) return false;
  const int signal = static_cast<int>(info.ssi_signo);
  if (signal == SIGTERM && engine_.behaviour().ignore_term) {
    log_line('W', "fake: SIGTERM ignored");
    return false;
  }
  // llama-server takes signals over only once its model is loaded.
  if (!engine_.loaded()) die_by_signal(signal);
  return true;
}

int Server::stop() {
  log_line('I', "srv    operator(): operator(): cleaning up before exit...");
  close(listen_fd_);
  listen_fd_ = -1;
  engine_.stop();
  const int64_t now_ns = monotonic_ns();
  if (!engine_.wait_for_connections_to_close(now_ns + kStopDeadlineNs)) {
    log_line('W', "fake: some connections did not end in time");
  }
  if (!engine_.behaviour().children_stay) end_children(engine_.children());
  const int64_t left_ns = now_ns + engine_.behaviour().stop_ms * kNsPerMs - monotonic_ns();
  if (left_ns > 0) std::this_thread::sleep_for(std::chrono::nanoseconds(left_ns));
  return 0;
}

}  // namespace fake_engine
