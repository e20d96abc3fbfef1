#include "doctor/command.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <fmt/format.h>

#include "base/exit_status.h"
#include "base/units.h"

namespace yoke::doctor {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// What the child starts with: no input, and a process group of its own, to be ended as a whole.
class SpawnSettings {
 public:
  SpawnSettings() {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    ::posix_spawnattr_init(&attributes_);
    ::posix_spawnattr_setpgroup(&attributes_, 0);
    ::posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETPGROUP);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
  ~SpawnSettings() {
    ::posix_spawn_file_actions_destroy(&actions_);
    ::posix_spawnattr_destroy(&attributes_);
  }
  const posix_spawn_file_actions_t* actions() const { return &actions_; }
  const posix_spawnattr_t* attributes() const { return &attributes_; }

 private:
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

Result<pid_t> start(const Command& command) {
  std::vector<std::string> words = command;
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const SpawnSettings settings;
  pid_t pid = 0;
  const int error = ::posix_spawnp(&pid, arguments[0], settings.actions(), settings.attributes(),
                                   arguments.data(), environ);
  if (error != 0) {
    return fail(kIo, fmt::format("{} can't be started: {}.", command[0], std::strerror(error)));
  }
  return pid;
}

}  // namespace

Result<void> run_command(const Command& command, milliseconds limit) {
  if (command.empty()) return fail(kInternal, "An empty command was to be run.");
  YOKE_TRY(const pid_t pid, start(command));
  const auto deadline = steady_clock::now() + limit;
  constexpr milliseconds kPoll{20};
  bool late = false;
  for (;;) {
    int status = 0;
    const pid_t ended = ::waitpid(pid, &status, late ? 0 : WNOHANG);
    if (ended < 0 && errno == EINTR) continue;
    if (ended < 0)
      return fail(kIo, fmt::format("{} was lost: {}.", command[0], std::strerror(errno)));
    if (ended == 0) {
      late = steady_clock::now() >= deadline;
      if (late) {
        ::kill(-pid, SIGKILL);
      } else {
        std::this_thread::sleep_for(kPoll);
      }
      continue;
    }
    if (late) {
      return fail(kTimeout,
                  fmt::format("{} was ended after {}.", command[0], format_duration(limit)));
    }
    const ExitStatus result{.code = WIFEXITED(status) ? WEXITSTATUS(status) : 0,
                            .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0};
    if (result.clean()) return {};
    return fail(kIo, fmt::format("{} ended with {}.", command[0], result.describe()));
  }
}

}  // namespace yoke::doctor
