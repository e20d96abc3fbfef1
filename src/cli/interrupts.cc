#include "cli/interrupts.h"

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <sys/eventfd.h>
#include <system_error>
#include <unistd.h>

#include <boost/asio/posix/stream_descriptor.hpp>

namespace yoke::cli {
namespace {

// What the signal handler writes to; a handler can reach nothing but globals.
std::atomic<int> handler_fd{-1};
static_assert(std::atomic<int>::is_always_lock_free);

void on_interrupt(int) {
  const int saved = errno;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(handler_fd.load(), &one, sizeof one);
  errno = saved;
}

}  // namespace

Interrupts::Interrupts() : event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!event_) throw std::system_error(errno, std::generic_category(), "eventfd");
  handler_fd = event_.get();
  struct sigaction action{};
  action.sa_handler = on_interrupt;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, &previous_);
  if (previous_.sa_handler == SIG_IGN) ::sigaction(SIGINT, &previous_, nullptr);
}

Interrupts::~Interrupts() {
  ::sigaction(SIGINT, &previous_, nullptr);
  handler_fd = -1;
}

io::Task<void> Interrupts::pressed() const {
  const auto executor = co_await boost::asio::this_coro::executor;
  // A duplicate: the descriptor object closes what it holds.
  boost::asio::posix::stream_descriptor event(executor, ::fcntl(event_.get(), F_DUPFD_CLOEXEC, 0));
  boost::system::error_code error;
  co_await event.async_wait(boost::asio::posix::stream_descriptor::wait_read, io::into(error));
}

void Interrupts::forget() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(event_.get(), &count, sizeof count);
}

}  // namespace yoke::cli
