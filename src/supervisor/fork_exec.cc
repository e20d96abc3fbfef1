#include "supervisor/fork_exec.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>

#include <fmt/format.h>

#include "supervisor/process_tree.h"

namespace yoke::supervisor {
namespace {

// Reading the program from a slow disk or network share takes its time.
constexpr int kExecLimitMs = 10'000;

// What of the child's set-up failed, and its errno: sent through a pipe that exec closes.
enum class Step : int { kWorkingDir, kExec };
struct Failure {
  Step step;
  int error;
};

// Everything the child needs, made before the fork: it may not allocate.
struct Plan {
  const char* program;
  char* const* argv;
  char* const* envp;
  const char* working_dir;  // Or null.
  int input;
  int output;
  int report;
  pid_t parent;
};

// From here to run_child: only async-signal-safe calls, because other threads of Yoke may have held
// any lock at the fork.
[[noreturn]] void report_and_exit(const Plan& plan, Step step) {
  const Failure failure{step, errno};
  // A pipe takes so few bytes whole. If nobody reads them any more there is nobody to tell.
  [[maybe_unused]] const ssize_t n = ::write(plan.report, &failure, sizeof failure);
  ::_exit(127);
}

void raise_oom_score() {
  const int file = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (file < 0) return;
  [[maybe_unused]] const ssize_t n = ::write(file, "500", 3);
  ::close(file);
}

// As the kernel's rt_sigaction(2) takes it; all zero is the default action.
struct KernelSignalAction {
  void* handler = nullptr;
  unsigned long flags = 0;
  void* restorer = nullptr;
  unsigned long mask = 0;
};

// Not through libc, which keeps its hands on signals 32 and 33: what Yoke was started with ignored
// there would stay ignored.
void reset_signals() {
  constexpr int kSignals = 64;
  const KernelSignalAction action;
  for (int number = 1; number <= kSignals; ++number) {
    ::syscall(SYS_rt_sigaction, number, &action, nullptr, sizeof action.mask);
  }
  const unsigned long none = 0;
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, sizeof none);
}

[[noreturn]] void run_child(const Plan& plan) {
  ::setsid();
  // The child dies with the thread that forks it. If that died before prctl, the parent has
  // changed.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != plan.parent) ::_exit(127);
  ::dup2(plan.input, STDIN_FILENO);
  ::dup2(plan.output, STDOUT_FILENO);
  ::dup2(plan.output, STDERR_FILENO);
  ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
  raise_oom_score();
  reset_signals();
  if (plan.working_dir != nullptr && ::chdir(plan.working_dir) != 0) {
    report_and_exit(plan, Step::kWorkingDir);
  }
  ::execve(plan.program, plan.argv, plan.envp);
  report_and_exit(plan, Step::kExec);
}

// No handler of Yoke's may run in the child, between fork and reset_signals.
class BlockAllSignals {
 public:
  BlockAllSignals() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockAllSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockAllSignals(const BlockAllSignals&) = delete;
  BlockAllSignals& operator=(const BlockAllSignals&) = delete;

 private:
  sigset_t before_;
};

pid_t fork_child(const Plan& plan) {
  const BlockAllSignals blocked;
  const pid_t pid = ::fork();
  if (pid == 0) run_child(plan);
  return pid;
}

std::string text_of(int error) { return std::generic_category().message(error); }

tl::unexpected<Error> no_resources(int error) {
  return fail(kSpawnFailed, fmt::format("No process can be started: {}.", text_of(error)),
              error == EMFILE || error == ENFILE
                  ? "Raise the limit of open files (ulimit -n)."
                  : "Check the free memory and the limit of processes (ulimit -u).");
}

tl::unexpected<Error> explain(const ChildSpec& spec, const Failure& failure) {
  const std::string& program = spec.argv[0];
  if (failure.step == Step::kWorkingDir) {
    return fail(kSpawnFailed,
                fmt::format("The working directory '{}' can't be entered: {}.",
                            spec.working_dir.string(), text_of(failure.error)),
                "Create it, or name another one.");
  }
  std::error_code ignored;
  switch (failure.error) {
    case ENOENT:
      if (std::filesystem::exists(program, ignored)) {
        return fail(
            kSpawnFailed,
            fmt::format("The loader or interpreter that '{}' asks for was not found.", program),
            "Use a build of the program for this system.");
      }
      return fail(kSpawnFailed, fmt::format("The program '{}' was not found.", program),
                  "Check the path, or install it.");
    case EACCES:
      return fail(kSpawnFailed, fmt::format("The program '{}' may not be run.", program),
                  "Check that it is a file with execute permission (chmod +x) and that its file "
                  "system is not mounted noexec.");
    case ENOEXEC:
      return fail(kSpawnFailed,
                  fmt::format("'{}' is no program that this machine can run.", program),
                  "Use a build for this processor and system.");
    case E2BIG:
      return fail(kSpawnFailed,
                  fmt::format("The arguments or environment for '{}' are too long.", program),
                  "Shorten them.");
    default:
      return fail(kSpawnFailed, fmt::format("The program '{}' can't be started: {}.", program,
                                            text_of(failure.error)));
  }
}

Result<void> check(const ChildSpec& spec) {
  const auto has_nul = [](const std::string& text) { return text.find('\0') != std::string::npos; };
  if (spec.argv.empty() || spec.argv[0].empty()) {
    return fail(kSpawnFailed, "There is no program to start.", "Name its path.");
  }
  for (const std::string& argument : spec.argv) {
    if (has_nul(argument)) {
      return fail(kSpawnFailed, fmt::format("An argument for '{}' has a NUL byte.", spec.argv[0]),
                  "Take it out.");
    }
  }
  for (const auto& [name, value] : spec.env) {
    if (name.empty() || name.find('=') != std::string::npos || has_nul(name) || has_nul(value)) {
      return fail(kSpawnFailed, fmt::format("'{}' can't be set in a program's environment.", name),
                  "Give it a name without '=', and no NUL bytes.");
    }
  }
  return {};
}

std::string_view name_of(std::string_view entry) { return entry.substr(0, entry.find('=')); }

// Yoke's own environment less what is to be dropped, with the spec's entries and the mark in place
// of those of the same name.
std::vector<std::string> make_environment(const ChildSpec& spec, const std::string& mark) {
  std::vector<std::string> added{mark};
  for (const auto& [name, value] : spec.env) added.push_back(name + "=" + value);
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const bool replaced = std::any_of(added.begin(), added.end(), [&](const std::string& other) {
      return name_of(other) == name_of(*entry);
    });
    const bool dropped =
        std::any_of(spec.drop_env_prefixes.begin(), spec.drop_env_prefixes.end(),
                    [&](const std::string& prefix) { return name_of(*entry).starts_with(prefix); });
    if (!replaced && !dropped) result.emplace_back(*entry);
  }
  result.insert(result.end(), added.begin(), added.end());
  return result;
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

// Descriptors 0 to 2 (free if Yoke was started without them) are where the child's dup2 writes.
UniqueFd above_stdio(UniqueFd fd) {
  if (fd.get() < 0 || fd.get() > STDERR_FILENO) return fd;
  return UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
}

struct Pipe {
  UniqueFd read;
  UniqueFd write;
  explicit operator bool() const { return read && write; }
};

Pipe make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return {};
  UniqueFd read(ends[0]);
  UniqueFd write(ends[1]);
  return {above_stdio(std::move(read)), above_stdio(std::move(write))};
}

// What the child reports, or nothing if it has begun to run the program.
std::optional<Failure> read_report(int pipe) {
  pollfd ready{pipe, POLLIN, 0};
  int polled = 0;
  do {
    polled = ::poll(&ready, 1, kExecLimitMs);
  } while (polled < 0 && errno == EINTR);
  if (polled == 0) return Failure{Step::kExec, ETIMEDOUT};
  Failure failure{};
  ssize_t n = 0;
  do {
    n = ::read(pipe, &failure, sizeof failure);
  } while (n < 0 && errno == EINTR);
  if (n == sizeof failure) return failure;
  return std::nullopt;
}

// Of a child that hangs in exec the zombie is left to the sweep of a later tree.
void discard(pid_t pid, const Failure& failure) {
  ::kill(pid, SIGKILL);
  const int flags = failure.error == ETIMEDOUT ? WNOHANG : 0;
  while (::waitpid(pid, nullptr, flags) < 0 && errno == EINTR) {
  }
}

}  // namespace

Result<ForkedChild> fork_exec(const ChildSpec& spec, const std::string& mark) {
  YOKE_CHECK(check(spec));
  std::error_code error;
  const std::string program = std::filesystem::absolute(spec.argv[0], error).string();
  if (error) return explain(spec, {Step::kExec, error.value()});
  const std::string working_dir = spec.working_dir.string();
  std::vector<std::string> arguments = spec.argv;
  std::vector<std::string> environment = make_environment(spec, mark);
  const std::vector<char*> argv = pointers_to(arguments);
  const std::vector<char*> envp = pointers_to(environment);

  const UniqueFd input = above_stdio(UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)));
  Pipe output = make_pipe();
  Pipe report = make_pipe();
  if (!input || !output || !report) return no_resources(errno);
  if (::fcntl(output.read.get(), F_SETFL, O_NONBLOCK) != 0) return no_resources(errno);

  const Plan plan{program.c_str(),    argv.data(),
                  envp.data(),        working_dir.empty() ? nullptr : working_dir.c_str(),
                  input.get(),        output.write.get(),
                  report.write.get(), ::getpid()};
  const pid_t pid = fork_child(plan);
  if (pid < 0) return no_resources(errno);
  report.write.reset();
  if (const auto failure = read_report(report.read.get())) {
    discard(pid, *failure);
    return explain(spec, *failure);
  }
  UniqueFd pidfd = open_pidfd(pid);
  if (!pidfd) {
    const int reason = errno;
    discard(pid, {Step::kExec, reason});
    return no_resources(reason);
  }
  return ForkedChild{pid, std::move(pidfd), std::move(output.read)};
}

}  // namespace yoke::supervisor
