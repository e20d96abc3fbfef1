#include "fake_engine/process.h"

#include <csignal>
#include <cstdlib>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake_engine/log.h"

namespace fake_engine {
namespace {

[[noreturn]] void sleep_as_child(const Behaviour& behaviour) {
  prctl(PR_SET_NAME, "fake_worker");
  if (behaviour.children_setsid) setsid();
  if (behaviour.ignore_term) std::signal(SIGTERM, SIG_IGN);
  alarm(static_cast<unsigned>(behaviour.max_lifetime_s));
  for (;;) pause();
}

}  // namespace

void die_by_signal(int signal) {
  std::signal(signal, SIG_DFL);
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, signal);
  pthread_sigmask(SIG_UNBLOCK, &only, nullptr);
  kill(getpid(), signal);
  for (;;) pause();  // The signal may be taken by another thread a moment later.
}

void crash(const Behaviour& behaviour) {
  log_raw(behaviour.crash_log);
  if (behaviour.crash_signal != 0) die_by_signal(static_cast<int>(behaviour.crash_signal));
  if (behaviour.crash_exit != kNever) _exit(static_cast<int>(behaviour.crash_exit));
  die_by_signal(SIGABRT);
}

std::vector<pid_t> spawn_children(const Behaviour& behaviour) {
  std::vector<pid_t> children;
  for (int64_t child = 0; child < behaviour.spawn_children; ++child) {
    const pid_t pid = fork();
    if (pid == 0) sleep_as_child(behaviour);
    if (pid < 0) {
      log_line('E', "fake: cannot fork a child");
      std::exit(1);
    }
    children.push_back(pid);
    log_line('I', "fake: child process " + std::to_string(pid));
  }
  return children;
}

void end_children(const std::vector<pid_t>& children) {
  for (const pid_t child : children) kill(child, SIGKILL);
  for (const pid_t child : children) waitpid(child, nullptr, 0);
}

void set_process_limits() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  std::signal(SIGPIPE, SIG_IGN);
}

}  // namespace fake_engine
