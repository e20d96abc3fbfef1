// What the tests of this module start: a program that behaves as its arguments say.
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <signal.h>
#include <string>
#include <unistd.h>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "supervisor/child_process.h"
#include "supervisor/guard.h"

namespace {

using yoke::supervisor::ChildProcess;
using yoke::supervisor::Guard;
using Arguments = std::vector<std::string>;

// Should a test forget one of these processes, it ends by itself.
[[noreturn]] void sleep_for_good() {
  ::alarm(120);
  while (true) ::pause();
}

int argument(const Arguments& args, std::size_t index, int otherwise) {
  return index < args.size() ? std::atoi(args[index].c_str()) : otherwise;
}

int lines(const Arguments& args) {
  for (int i = 1; i <= argument(args, 1, 3); ++i) {
    dprintf(STDOUT_FILENO, "out %d\n", i);
    dprintf(STDERR_FILENO, "err %d\n", i);
  }
  return 0;
}

int flood(const Arguments& args) {
  const int bytes = argument(args, 1, 10'000'000);
  int count = 0;
  for (int written = 0; written < bytes; ++count) {
    written += std::printf("%d %s\n", count, std::string(90, 'x').c_str());
  }
  std::printf("wrote %d lines\n", count);
  return 0;
}

int ready_and_sleep(const Arguments&) {
  dprintf(STDOUT_FILENO, "ready\n");
  sleep_for_good();
}

int ignore_term(const Arguments& args) {
  ::signal(SIGTERM, SIG_IGN);
  return ready_and_sleep(args);
}

// Waits for SIGTERM and exits with the given code.
int exit_on_term(const Arguments& args) {
  sigset_t term;
  ::sigemptyset(&term);
  ::sigaddset(&term, SIGTERM);
  ::sigprocmask(SIG_BLOCK, &term, nullptr);
  dprintf(STDOUT_FILENO, "ready\n");
  ::alarm(120);
  int number = 0;
  ::sigwait(&term, &number);
  dprintf(STDOUT_FILENO, "terminated\n");
  return argument(args, 1, 0);
}

int crash(int number) {
  // Sanitizers handle some of these signals.
  ::signal(number, SIG_DFL);
  ::raise(number);
  return 0;
}

struct HelperKind {
  const char* name;  // Printed with its pid.
  bool new_session = false;
  bool orphan = false;  // Its parent ends at once.
};

void say_ready(int pipe) {
  if (::write(pipe, "", 1) != 1) ::_exit(97);
}

// Forks a helper that ignores SIGTERM and runs `body`; returns when that has said that it is ready,
// or called exec.
template <class Body>
void fork_helper(HelperKind kind, Body body) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) std::exit(98);
  if (::fork() == 0) {
    ::close(ends[0]);
    const pid_t parent = ::getpid();
    if (kind.orphan) {
      if (::fork() != 0) ::_exit(0);
      while (::getppid() == parent) ::usleep(1000);
    }
    if (kind.new_session) ::setsid();
    ::signal(SIGTERM, SIG_IGN);
    dprintf(STDOUT_FILENO, "%s %d\n", kind.name, ::getpid());
    body(ends[1]);
    ::_exit(0);
  }
  ::close(ends[1]);
  char byte = 0;
  [[maybe_unused]] const ssize_t n = ::read(ends[0], &byte, 1);
  ::close(ends[0]);
}

void ready_to_sleep(int pipe) {
  say_ready(pipe);
  sleep_for_good();
}

// Helpers of every kind, which all ignore SIGTERM; then exits with the given code, or sleeps.
int family(const Arguments& args) {
  fork_helper({.name = "child"}, ready_to_sleep);
  fork_helper({.name = "session", .new_session = true}, ready_to_sleep);
  fork_helper({.name = "orphan", .new_session = true, .orphan = true}, ready_to_sleep);
  fork_helper({.name = "parent", .new_session = true}, [](int pipe) {
    fork_helper({.name = "grandchild", .new_session = true}, ready_to_sleep);
    ready_to_sleep(pipe);
  });
  dprintf(STDOUT_FILENO, "ready\n");
  if (args.size() > 1) return argument(args, 1, 0);
  sleep_for_good();
}

// An orphan that ends by itself while its tree lives on.
int short_lived_orphan(const Arguments& args) {
  fork_helper({.name = "orphan", .new_session = true, .orphan = true}, say_ready);
  return ready_and_sleep(args);
}

// On SIGTERM it ends at once, and its helper, which says "ready", a moment later.
int slow_helper(const Arguments&) {
  fork_helper({.name = "helper"}, [](int pipe) {
    say_ready(pipe);
    exit_on_term({});
    ::usleep(100'000);
    dprintf(STDOUT_FILENO, "tidied up\n");
  });
  sleep_for_good();
}

std::string own_path() { return std::filesystem::read_symlink("/proc/self/exe").string(); }

void become_nameless() {
  std::string program = own_path();
  std::string mode = "sleep";
  char* const argv[] = {program.data(), mode.data(), nullptr};
  char* const no_environment[] = {nullptr};
  ::execve(program.c_str(), argv, no_environment);
}

// Ends and leaves an orphan in no way recognisable that holds the pipe.
int escape(const Arguments&) {
  fork_helper({.name = "escaped", .new_session = true, .orphan = true},
              [](int) { become_nameless(); });
  return 0;
}

// A helper that shows neither its descent nor, as programs that set their title do, its
// environment.
int nameless_helper(const Arguments& args) {
  fork_helper({.name = "nameless", .orphan = true}, [](int) { become_nameless(); });
  return ready_and_sleep(args);
}

// What it was started with, a line each.
int report(const Arguments&) {
  const char* value = std::getenv("YOKE_TEST_VALUE");
  std::cout << "value " << (value != nullptr ? value : "(none)") << '\n';
  std::cout << "home " << (std::getenv("HOME") != nullptr ? "set" : "(none)") << '\n';
  std::cout << "directory " << std::filesystem::current_path().string() << '\n';
  std::cout << "leads " << (::getsid(0) == ::getpid() && ::getpgrp() == ::getpid()) << '\n';
  std::cout << "input " << (std::cin.get() == EOF ? "empty" : "not empty") << '\n';
  std::cout << "descriptors";
  for (int fd = 0; fd < 1000; ++fd) {
    if (::fcntl(fd, F_GETFD) >= 0) std::cout << ' ' << fd;
  }
  std::cout << '\n';
  std::string line;
  for (std::ifstream status("/proc/self/status"); std::getline(status, line);) {
    if (line.starts_with("SigBlk") || line.starts_with("SigIgn")) std::cout << line << '\n';
  }
  std::ifstream oom_score("/proc/self/oom_score_adj");
  std::getline(oom_score, line);
  std::cout << "oom " << line << '\n';
  return 0;
}

// Starts a child of its own and tells its pid.
int supervise(const Arguments&) {
  boost::asio::io_context context;
  yoke::Result<std::unique_ptr<ChildProcess>> child = ChildProcess::spawn(
      context.get_executor(), {.argv = {own_path(), "ignore-term"}},
      [&](std::string_view) { dprintf(STDOUT_FILENO, "%d\n", (*child)->pid()); });
  if (!child) return 1;
  context.run_for(std::chrono::minutes(2));
  return 0;
}

// Starts a child in the given mode that a guard watches, and passes on what it says.
std::unique_ptr<ChildProcess> start_guarded(boost::asio::io_context& context, Guard& guard,
                                            const std::string& mode) {
  bool ready = false;
  auto child =
      ChildProcess::spawn(context.get_executor(), {.argv = {own_path(), mode}, .guard = &guard},
                          [&ready](std::string_view line) {
                            dprintf(STDOUT_FILENO, "%s\n", std::string(line).c_str());
                            ready = ready || line == "ready";
                          });
  if (!child) std::exit(96);
  dprintf(STDOUT_FILENO, "leader %d\n", (*child)->pid());
  while (!ready) context.run_one_for(std::chrono::seconds(10));
  return std::move(*child);
}

// Guards a child, and ends well when its input does.
int guarded(const Arguments& args) {
  boost::asio::io_context context;
  auto guard = Guard::start();
  if (!guard) return 1;
  const auto child = start_guarded(context, **guard, args.at(1));
  std::unique_ptr<ChildProcess> second;
  // A line of input starts another child.
  for (std::string line; std::getline(std::cin, line);) {
    second = start_guarded(context, **guard, line);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments args(argv + 1, argv + argc);
  const std::map<std::string, int (*)(const Arguments&)> modes = {
      {"abort", [](const Arguments&) { return crash(SIGABRT); }},
      {"escape", escape},
      {"exit", [](const Arguments& a) { return argument(a, 1, 0); }},
      {"exit-on-term", exit_on_term},
      {"family", family},
      {"flood", flood},
      {"guarded", guarded},
      {"ignore-term", ignore_term},
      {"lines", lines},
      {"nameless", nameless_helper},
      {"partial", [](const Arguments&) { return std::printf("no line end") > 0 ? 0 : 1; }},
      {"report", report},
      {"segv", [](const Arguments&) { return crash(SIGSEGV); }},
      {"short-lived-orphan", short_lived_orphan},
      {"sleep", ready_and_sleep},
      {"slow-helper", slow_helper},
      {"supervise", supervise},
      {std::string(yoke::supervisor::kGuardCommand),
       [](const Arguments&) { return yoke::supervisor::run_guard(); }},
  };
  const auto mode = args.empty() ? modes.end() : modes.find(args[0]);
  if (mode == modes.end()) {
    dprintf(STDERR_FILENO, "test_child: no such mode\n");
    return 99;
  }
  return mode->second(args);
}
