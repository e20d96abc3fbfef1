// Listens, gives each connection a thread, and lives the process's scripted life: loading, timers,
// signals, stopping. Owned and run by main's thread.
#pragma once

#include <cstdint>
#include <string>

#include "fake_engine/engine.h"

namespace fake_engine {

class Server {
 public:
  // SIGTERM and SIGINT must be blocked in every thread: the server reads them from a descriptor.
  explicit Server(Engine& engine);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Binds host and port of the options. False, with a line in the log, if that is not possible.
  bool listen();

  // Serves until a signal or the end of the scripted lifetime; returns the exit code.
  int run();

 private:
  void accept_connection();
  void load_model();
  void fail_to_load(const std::string& model_path);
  // Returns true if the process is to stop.
  bool handle_signal();
  void break_down_in_time();
  int64_t next_timer_ns() const;
  int stop();

  Engine& engine_;
  const int64_t start_ns_;
  const int signal_fd_;
  int listen_fd_ = -1;
  int port_ = 0;
  bool break_is_over_ = false;
};

}  // namespace fake_engine
