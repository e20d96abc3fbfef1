#include "cli/engine_install.h"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string_view>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/exit_status.h"
#include "base/unique_fd.h"
#include "supervisor/process_tree.h"

namespace yoke::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPython = "python3";

// An engine that Yoke can get: the tool that does it, and the backends that it has.
struct Engine {
  std::string_view name;
  std::string_view tool;
  std::vector<std::string_view> backends;
};

const std::array<Engine, 2>& engines() {
  static const std::array<Engine, 2> all{
      {{"llama.cpp", "get_llama_cpp.py", {"all", "cpu", "vulkan", "rocm", "cuda"}},
       {"vllm", "get_vllm.py", {"cpu", "rocm", "cuda"}}}};
  return all;
}

Result<const Engine*> find_engine(const EngineInstallOptions& options) {
  for (const Engine& engine : engines()) {
    if (engine.name != options.name) continue;
    for (const std::string_view backend : engine.backends) {
      if (options.backend.empty() || options.backend == backend) return &engine;
    }
    return fail(kInvalidArgument,
                fmt::format("There is no {} with the backend '{}'.", engine.name, options.backend),
                fmt::format("It is one of {}.", fmt::join(engine.backends, ", ")));
  }
  return fail(kInvalidArgument, fmt::format("'{}' is no engine that Yoke can get.", options.name),
              "Name llama.cpp or vllm.");
}

// Best first. The last is where a build in a source tree has them.
std::vector<fs::path> tool_dirs() {
  if (const char* named = std::getenv("YOKE_TOOLS_DIR"); named != nullptr && *named != '\0') {
    return {named};
  }
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (error) return {};
  const fs::path dir = program.parent_path();
  return {dir / "tools", dir.parent_path() / "lib/yoke/tools",
          dir.parent_path().parent_path() / "tools"};
}

Result<fs::path> find_tool(std::string_view name) {
  const std::vector<fs::path> dirs = tool_dirs();
  for (const fs::path& dir : dirs) {
    std::error_code error;
    if (fs::is_regular_file(dir / name, error)) return dir / name;
  }
  std::vector<std::string> places;
  for (const fs::path& dir : dirs) places.push_back(dir.string());
  return fail(
      kEngineToolsMissing,
      fmt::format("The tool {} is not there; looked into {}.", name, fmt::join(places, ", ")),
      "Install Yoke with its tools, or name their directory with YOKE_TOOLS_DIR.");
}

// Signals that end a program wait here, for the tool, whose end is then this program's.
class HeldSignals {
 public:
  HeldSignals() {
    sigset_t held;
    sigemptyset(&held);
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&held, number);
    ::pthread_sigmask(SIG_BLOCK, &held, &before_);
    fd_ = UniqueFd(::signalfd(-1, &held, SFD_CLOEXEC | SFD_NONBLOCK));
  }
  ~HeldSignals() {
    signalfd_siginfo late{};  // The tool's end says all that there is to say.
    while (::read(fd_.get(), &late, sizeof late) == sizeof late) {
    }
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  HeldSignals(const HeldSignals&) = delete;
  HeldSignals& operator=(const HeldSignals&) = delete;

  int fd() const { return fd_.get(); }
  const sigset_t& before() const { return before_; }

  // The terminal sends Ctrl-C to the tool itself.
  void pass_on(pid_t tool) const {
    signalfd_siginfo signal{};
    while (::read(fd_.get(), &signal, sizeof signal) == sizeof signal) {
      if (signal.ssi_code <= 0) ::kill(tool, static_cast<int>(signal.ssi_signo));
    }
  }

 private:
  sigset_t before_{};
  UniqueFd fd_;
};

// Returns when the child can be waited for.
void pass_signals_until_end(const HeldSignals& signals, pid_t child) {
  const UniqueFd ended = supervisor::open_pidfd(child);
  std::array<pollfd, 2> watched{{{ended.get(), POLLIN, 0}, {signals.fd(), POLLIN, 0}}};
  while (ended) {
    if (::poll(watched.data(), watched.size(), -1) < 0 && errno != EINTR) return;
    if (watched[0].revents != 0) return;
    signals.pass_on(child);
  }
}

Result<ExitStatus> run(std::vector<std::string> words) {
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const HeldSignals signals;
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  ::posix_spawnattr_setsigmask(&attributes, &signals.before());
  pid_t child = 0;
  const int error = ::posix_spawnp(&child, argv[0], nullptr, &attributes, argv.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    return fail(kEngineToolsMissing,
                fmt::format("{} can't be started: {}.", words.front(), std::strerror(error)),
                "Engines are fetched by tools in Python: install python3.");
  }
  pass_signals_until_end(signals, child);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return ExitStatus{.code = 1};
  }
  if (WIFSIGNALED(status)) return ExitStatus{.signal = WTERMSIG(status)};
  return ExitStatus{.code = WEXITSTATUS(status)};
}

}  // namespace

Result<void> engine_install(const EngineInstallOptions& options) {
  YOKE_TRY(const Engine* engine, find_engine(options));
  YOKE_TRY(const fs::path tool, find_tool(engine->tool));
  std::vector<std::string> words{kPython, tool.string()};
  const auto add = [&words](const char* flag, const std::string& value) {
    if (value.empty()) return;
    words.emplace_back(flag);
    words.push_back(value);
  };
  add("--backend", options.backend);
  add("--from", options.from);
  add("--dest", options.dest);
  YOKE_TRY(const ExitStatus status, run(std::move(words)));
  if (status.code == 0 && status.signal == 0) return {};
  constexpr int kInterrupted = 130;
  if (status.signal == SIGINT || status.code == kInterrupted) {
    return fail(kCancelled, "Interrupted.", "The same command goes on from here.");
  }
  return fail(kEngineInstallFailed,
              fmt::format("{} was not installed: {} ended with {}.", engine->name, engine->tool,
                          status.describe()),
              "What it printed says why.");
}

}  // namespace yoke::cli
