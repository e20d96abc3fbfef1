#include "io/watchdog.h"

namespace yoke::io {

Watchdog::Watchdog(boost::asio::any_io_executor executor, std::function<void()> on_expired)
    : timer_(executor), on_expired_(std::move(on_expired)) {}

void Watchdog::arm(Clock::duration limit) {
  deadline_ = Clock::now() + limit;
  // A later deadline is noticed when the timer wakes; only an earlier one needs the timer moved.
  if (deadline_ < wakes_at_) timer_.cancel();
}

void Watchdog::stop() {
  stopped_ = true;
  timer_.cancel();
}

Task<void> Watchdog::run() {
  while (!stopped_) {
    if (deadline_ != Clock::time_point::max() && Clock::now() >= deadline_) {
      expired_ = true;
      on_expired_();
      co_return;
    }
    wakes_at_ = deadline_;
    timer_.expires_at(wakes_at_);
    boost::system::error_code error;
    co_await timer_.async_wait(into(error));
    const auto cancelled = co_await boost::asio::this_coro::cancellation_state;
    if (cancelled.cancelled() != boost::asio::cancellation_type::none) co_return;
  }
}

}  // namespace yoke::io
