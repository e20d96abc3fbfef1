#include "scheduler/wait_queue.h"

#include <algorithm>
#include <utility>

namespace yoke::scheduler {
namespace {

bool goes_before(const Waiter& a, const Waiter& b) {
  return a.priority != b.priority ? a.priority > b.priority : a.place < b.place;
}

}  // namespace

void WaitQueue::push(const Waiter& waiter) {
  waiters_.insert(std::ranges::upper_bound(waiters_, waiter, goes_before), waiter);
  oldest_ = std::min(oldest_, waiter.place);
  first_deadline_ = std::min(first_deadline_, waiter.deadline);
}

void WaitQueue::look_again() {
  oldest_ = Place{};
  first_deadline_ = Time::max();
  for (const Waiter& waiter : waiters_) {
    oldest_ = std::min(oldest_, waiter.place);
    first_deadline_ = std::min(first_deadline_, waiter.deadline);
  }
}

Waiter WaitQueue::take(std::vector<Waiter>::iterator position) {
  const Waiter taken = *position;
  waiters_.erase(position);
  if (taken.place == oldest_ || taken.deadline == first_deadline_) look_again();
  return taken;
}

bool WaitQueue::remove(RequestId request) {
  const auto found = std::ranges::find(waiters_, request, &Waiter::request);
  if (found == waiters_.end()) return false;
  take(found);
  return true;
}

std::optional<Waiter> WaitQueue::pop(Time now, Duration too_long,
                                     const std::optional<Cutoff>& cutoff) {
  if (empty() || (cutoff && !cutoff->lets_pass(oldest_))) return std::nullopt;
  const bool by_age = cutoff || now - oldest_.since >= too_long;
  return take(by_age ? std::ranges::find(waiters_, oldest_, &Waiter::place) : waiters_.begin());
}

std::vector<Waiter> WaitQueue::take_expired(Time now) {
  std::vector<Waiter> expired;
  if (first_deadline_ > now) return expired;
  std::erase_if(waiters_, [&](const Waiter& waiter) {
    if (waiter.deadline > now) return false;
    expired.push_back(waiter);
    return true;
  });
  look_again();
  return expired;
}

std::vector<Waiter> WaitQueue::take_all() {
  std::vector<Waiter> all = std::exchange(waiters_, {});
  look_again();
  return all;
}

}  // namespace yoke::scheduler
