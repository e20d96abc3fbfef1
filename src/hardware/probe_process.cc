#include "hardware/probe_process.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

#include "hardware/text_fields.h"

namespace yoke::hardware {
namespace {

constexpr std::size_t kMostMessages = 4096;
constexpr std::size_t kLongestLastWords = 200;

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    return fail(kIo, fmt::format("no pipe: {}", std::strerror(errno)));
  }
  Pipe pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
  ::fcntl(pipe.read.get(), F_SETFL, O_NONBLOCK);
  return pipe;
}

// What posix_spawn() does in the child before its program starts.
class SpawnSetup {
 public:
  SpawnSetup(int answer, int messages) {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_addopen(&actions_, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    ::posix_spawn_file_actions_adddup2(&actions_, messages, STDERR_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions_, answer, ProbeProcess::kAnswerFd);
    ::posix_spawn_file_actions_addclosefrom_np(&actions_, ProbeProcess::kAnswerFd + 1);

    ::posix_spawnattr_init(&attributes_);
    sigset_t set;
    ::sigemptyset(&set);
    ::posix_spawnattr_setsigmask(&attributes_, &set);
    ::sigfillset(&set);
    ::posix_spawnattr_setsigdefault(&attributes_, &set);
    ::posix_spawnattr_setpgroup(&attributes_, 0);
    ::posix_spawnattr_setflags(
        &attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  }
  SpawnSetup(const SpawnSetup&) = delete;
  SpawnSetup& operator=(const SpawnSetup&) = delete;
  ~SpawnSetup() {
    ::posix_spawnattr_destroy(&attributes_);
    ::posix_spawn_file_actions_destroy(&actions_);
  }

  const posix_spawn_file_actions_t* actions() const { return &actions_; }
  const posix_spawnattr_t* attributes() const { return &attributes_; }

 private:
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

std::vector<std::string> child_environment() {
  std::vector<std::string> result;
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    const std::string_view name = text.substr(0, text.find('='));
    // Layers are other people's code between the loader and the drivers.
    if (name == "VK_LOADER_LAYERS_DISABLE" || name == "VK_INSTANCE_LAYERS") continue;
    if (std::ranges::find(kHidingVariables, name) == std::end(kHidingVariables)) {
      result.emplace_back(text);
    }
  }
  result.emplace_back("VK_LOADER_LAYERS_DISABLE=~implicit~");
  return result;
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (auto& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

// Appends what there is to read; closes the descriptor at its end.
void read_available(UniqueFd& fd, std::string& text, std::size_t most) {
  std::array<char, 16'384> buffer;
  while (fd && text.size() <= most) {
    const ssize_t size = ::read(fd.get(), buffer.data(), buffer.size());
    if (size > 0) {
      text.append(buffer.data(), static_cast<std::size_t>(size));
    } else if (size == 0 || (errno != EAGAIN && errno != EINTR)) {
      fd.reset();
    } else if (errno == EAGAIN) {
      return;
    }
  }
}

}  // namespace

Result<ProbeProcess> ProbeProcess::start(const std::vector<std::string>& command) {
  YOKE_TRY(auto answer, make_pipe());
  YOKE_TRY(auto messages, make_pipe());
  const SpawnSetup setup(answer.write.get(), messages.write.get());
  auto arguments = command;
  auto environment = child_environment();
  ProbeProcess child;
  if (const int error =
          ::posix_spawn(&child.pid_, command.front().c_str(), setup.actions(), setup.attributes(),
                        pointers_to(arguments).data(), pointers_to(environment).data());
      error != 0) {
    child.pid_ = -1;
    return fail(kIo, fmt::format("{}: {}", command.front(), std::strerror(error)));
  }
  child.pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, child.pid_, 0)));
  child.answer_fd_ = std::move(answer.read);
  child.message_fd_ = std::move(messages.read);
  return child;
}

ProbeProcess::ProbeProcess(ProbeProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      pidfd_(std::move(other.pidfd_)),
      answer_fd_(std::move(other.answer_fd_)),
      message_fd_(std::move(other.message_fd_)),
      answer_(std::move(other.answer_)),
      messages_(std::move(other.messages_)),
      signal_(other.signal_),
      exit_code_(other.exit_code_) {}

ProbeProcess::~ProbeProcess() {
  if (pid_ <= 0) return;
  // The child is not reaped yet, so its number can't be another group's.
  ::kill(-pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void ProbeProcess::add_to(std::vector<pollfd>& descriptors) const {
  for (const auto* const fd : {&pidfd_, &answer_fd_, &message_fd_}) {
    if (*fd) descriptors.push_back({fd->get(), POLLIN, 0});
  }
}

void ProbeProcess::update() {
  // In this order: what an ended child has written can be read for certain.
  siginfo_t info{};
  if (!ended() &&
      ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 &&
      errno == ECHILD) {
    exit_code_ = -1;  // Somebody else has reaped it.
    pid_ = -1;
  } else if (info.si_pid != 0) {
    (info.si_code == CLD_EXITED ? exit_code_ : signal_) = info.si_status;
  }
  read_available(answer_fd_, answer_, kLongestAnswer);
  for (bool more = true; more && message_fd_;) {
    read_available(message_fd_, messages_, 2 * kMostMessages);
    more = messages_.size() > 2 * kMostMessages;
    if (messages_.size() > kMostMessages) messages_.erase(0, messages_.size() - kMostMessages);
  }
}

std::string ProbeProcess::last_words() const {
  std::string_view last;
  for (std::string_view rest = messages_; !rest.empty();) {
    if (const auto line = trim(take_line(rest)); !line.empty()) last = line;
  }
  std::string result(last.substr(0, kLongestLastWords));
  std::ranges::replace_if(result, [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  return result;
}

}  // namespace yoke::hardware
