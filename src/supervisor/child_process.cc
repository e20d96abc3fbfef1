#include "supervisor/child_process.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "base/log.h"
#include "base/random.h"
#include "io/wait_list.h"
#include "supervisor/fork_exec.h"
#include "supervisor/guard.h"
#include "supervisor/log_ring.h"
#include "supervisor/process_tree.h"

namespace yoke::supervisor {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kNever = Clock::time_point::max();
constexpr auto kLongestGrace = std::chrono::milliseconds(24h);
constexpr auto kKillLimit = 30s;
constexpr auto kDestroyLimit = 2s;
// Between two looks whether the tree is gone.
constexpr auto kShortestPause = 1ms;
constexpr auto kLongestPause = 250ms;

constexpr std::size_t kReadBytes = 64 * 1024;
// What is read after the end, at most: more than a pipe holds, should a stranger go on writing.
constexpr int kLastReads = 32;

// Random, so that no other Yoke has the same: pids are those of a container.
std::string next_mark() {
  constexpr std::size_t kBytes = 8;
  return "YOKE_PROCESS_TREE=" + random_hex(kBytes);
}

void log_failure(std::exception_ptr error) {
  if (!error) return;
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    log::error("Watching a child process ended with an unexpected exception: {}", e.what());
  }
}

}  // namespace

// Shared by the ChildProcess and the tasks that watch it, which end soon after it has gone.
struct ChildProcess::State {
  State(const asio::any_io_executor& executor, ForkedChild child, std::string mark,
        Guard* tree_guard, LineSink line_sink)
      : pid(child.pid),
        pidfd(executor, child.pidfd.release()),
        output(executor, child.output.release()),
        sink(std::move(line_sink)),
        guard(tree_guard),
        tree(std::in_place, pid, std::move(mark)),
        changed(executor) {}

  // Asks the kernel whether the leader has ended, and leaves it unreaped.
  void look_for_exit();
  // One round: true when the leader has ended and nothing of the tree is left; the leader is
  // reaped.
  bool clear(ProcessTree::Action action);
  void finish();
  // Hands out what can be read now; false at the end of the output.
  bool read_some();
  void request_stop(std::chrono::milliseconds grace);
  void forget_tree();
  void destroy();
  ExitStatus status_or_killed() const { return status.value_or(ExitStatus{0, SIGKILL}); }

  // Each holds the state while it runs.
  static io::Task<void> watch_leader(std::shared_ptr<State> self);
  static io::Task<void> read_output(std::shared_ptr<State> self);
  static io::Task<void> supervise(std::shared_ptr<State> self);
  static io::Task<ExitStatus> wait_until(std::shared_ptr<State> self, Clock::time_point deadline);
  static io::Task<ExitStatus> stop(std::shared_ptr<State> self, std::chrono::milliseconds grace);

  const pid_t pid;
  asio::posix::stream_descriptor pidfd;
  asio::posix::stream_descriptor output;
  LineSplitter splitter;
  LineSink sink;
  Guard* const guard;               // Or null.
  std::optional<ProcessTree> tree;  // Until the leader is reaped.
  std::optional<ExitStatus> status;
  Clock::time_point kill_at = kNever;
  bool ended = false;  // The tree is gone and the output handed out, or the ChildProcess is gone.
  io::WaitList changed;
};

void ChildProcess::State::look_for_exit() {
  if (status || !pidfd.is_open()) return;
  siginfo_t info{};
  const auto id = static_cast<id_t>(pidfd.native_handle());
  if (::waitid(P_PIDFD, id, &info, WEXITED | WNOHANG | WNOWAIT) != 0) {
    // ECHILD: other code of this process reaped it. Its status is lost, but it has ended.
    if (errno != ECHILD) return;
    log::error("Process {} was reaped by somebody else; its exit status is lost.", pid);
    status = ExitStatus{0, SIGKILL};
  } else if (info.si_pid == pid) {
    status =
        info.si_code == CLD_EXITED ? ExitStatus{info.si_status, 0} : ExitStatus{0, info.si_status};
  } else {
    return;
  }
  // Ended by itself: the rest of the tree goes at once. In a stop it has the rest of the grace.
  if (kill_at == kNever) kill_at = Clock::now();
  changed.notify_all();
}

bool ChildProcess::State::clear(ProcessTree::Action action) {
  look_for_exit();
  const std::size_t left = tree->sweep(action);
  if (!status || left > 0) return false;
  forget_tree();  // Before the pid is free for others.
  siginfo_t info{};
  ::waitid(P_PIDFD, static_cast<id_t>(pidfd.native_handle()), &info, WEXITED | WNOHANG);
  return true;
}

void ChildProcess::State::forget_tree() {
  tree.reset();
  if (guard != nullptr) guard->forget(pid);
}

void ChildProcess::State::finish() {
  for (int i = 0; i < kLastReads && read_some(); ++i) {
    pollfd ready{output.native_handle(), POLLIN, 0};
    if (::poll(&ready, 1, 0) <= 0) break;
  }
  if (sink) splitter.finish(sink);
  boost::system::error_code ignored;
  output.close(ignored);
  pidfd.close(ignored);
  ended = true;
  changed.notify_all();
}

bool ChildProcess::State::read_some() {
  if (!output.is_open() || !sink) return false;
  std::array<char, kReadBytes> buffer;
  const ssize_t n = ::read(output.native_handle(), buffer.data(), buffer.size());
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  splitter.feed({buffer.data(), static_cast<std::size_t>(n)}, sink);
  return n > 0;
}

void ChildProcess::State::request_stop(std::chrono::milliseconds grace) {
  if (ended) return;
  grace = std::clamp(grace, 0ms, kLongestGrace);
  if (kill_at == kNever && grace > 0ms) {
    // Those with a session of their own are found by descent only as long as their parents live.
    tree->sweep(ProcessTree::Action::kLook);
    ::kill(-pid, SIGTERM);
  }
  kill_at = std::min(kill_at, Clock::now() + grace);
  changed.notify_all();
}

void ChildProcess::State::destroy() {
  sink = nullptr;
  if (ended) return;
  const auto give_up = Clock::now() + kDestroyLimit;
  while (tree && !clear(ProcessTree::Action::kKill)) {
    if (Clock::now() >= give_up) {
      log::error("Process {} or one below it can't be killed; it may hang in a driver.", pid);
      forget_tree();  // A later sweep reaps it.
      break;
    }
    if (status) {
      std::this_thread::sleep_for(1ms);
    } else {
      pollfd ready{pidfd.native_handle(), POLLIN, 0};
      ::poll(&ready, 1, 20);
    }
  }
  finish();
}

io::Task<void> ChildProcess::State::watch_leader(std::shared_ptr<State> self) {
  boost::system::error_code error;
  while (!self->status && !self->ended && !error) {
    co_await self->pidfd.async_wait(asio::posix::descriptor_base::wait_read, io::into(error));
    self->look_for_exit();
    // A debugger gets to see the end first.
    if (!self->status) co_await self->changed.wait_until(Clock::now() + kLongestPause);
  }
}

io::Task<void> ChildProcess::State::read_output(std::shared_ptr<State> self) {
  // Waits and reads in two steps, so that finish() never overtakes bytes that were read already.
  boost::system::error_code error;
  do {
    co_await self->output.async_wait(asio::posix::descriptor_base::wait_read, io::into(error));
  } while (!error && self->read_some());
}

io::Task<void> ChildProcess::State::supervise(std::shared_ptr<State> self) {
  while (!self->status && Clock::now() < self->kill_at && !self->ended) {
    co_await self->changed.wait_until(self->kill_at);
  }
  Clock::duration pause = kShortestPause;
  while (!self->ended) {
    const bool kill = Clock::now() >= self->kill_at;
    if (self->clear(kill ? ProcessTree::Action::kKill : ProcessTree::Action::kLook)) {
      self->finish();
      break;
    }
    co_await self->changed.wait_until(Clock::now() + pause);
    pause = std::min<Clock::duration>(2 * pause, kLongestPause);
  }
}

io::Task<ExitStatus> ChildProcess::State::wait_until(std::shared_ptr<State> self,
                                                     Clock::time_point deadline) {
  while (!self->ended && Clock::now() < deadline) {
    const auto cancellation = co_await asio::this_coro::cancellation_state;
    if (cancellation.cancelled() != asio::cancellation_type::none) break;
    co_await self->changed.wait_until(deadline);
  }
  co_return self->status_or_killed();
}

io::Task<ExitStatus> ChildProcess::State::stop(std::shared_ptr<State> self,
                                               std::chrono::milliseconds grace) {
  self->request_stop(grace);
  const auto deadline = std::max(self->kill_at, Clock::now()) + kKillLimit;
  const ExitStatus result = co_await wait_until(self, deadline);
  if (!self->ended && Clock::now() >= deadline) {
    log::error("Process {} or one below it outlives SIGKILL; it may hang in a driver.", self->pid);
  }
  co_return result;
}

Result<std::unique_ptr<ChildProcess>> ChildProcess::spawn(asio::any_io_executor executor,
                                                          ChildSpec spec, LineSink sink) {
  become_subreaper();
  std::string mark = next_mark();
  YOKE_TRY(ForkedChild child, fork_exec(spec, mark));
  if (spec.guard != nullptr) spec.guard->watch(child.pid, mark);
  if (!sink) sink = [](std::string_view) {};
  auto state = std::make_shared<State>(executor, std::move(child), std::move(mark), spec.guard,
                                       std::move(sink));
  asio::co_spawn(executor, State::watch_leader(state), log_failure);
  asio::co_spawn(executor, State::read_output(state), log_failure);
  asio::co_spawn(executor, State::supervise(state), log_failure);
  return std::unique_ptr<ChildProcess>(new ChildProcess(std::move(state)));
}

ChildProcess::ChildProcess(std::shared_ptr<State> state) : state_(std::move(state)) {}

ChildProcess::~ChildProcess() { state_->destroy(); }

pid_t ChildProcess::pid() const { return state_->pid; }

std::optional<ExitStatus> ChildProcess::exit_status() const { return state_->status; }

io::Task<ExitStatus> ChildProcess::wait() { return State::wait_until(state_, kNever); }

io::Task<ExitStatus> ChildProcess::stop(std::chrono::milliseconds grace) {
  return State::stop(state_, grace);
}

void ChildProcess::look_at_tree() {
  if (state_->tree) state_->tree->sweep(ProcessTree::Action::kLook);
}

void ChildProcess::signal(int number) {
  // The tree, and with it the leader, is unreaped: the pid is still its own.
  if (state_->tree && !state_->status) ::kill(state_->pid, number);
}

}  // namespace yoke::supervisor
