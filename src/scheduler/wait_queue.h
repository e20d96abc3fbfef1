// WaitQueue: the requests that wait for one model. By priority, and then first come, first served;
// but who has waited for too long goes before all that came later. Owned by the scheduler; on its
// thread.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "scheduler/types.h"

namespace yoke::scheduler {

// When somebody began to wait; no two are the same.
struct Place {
  Time since = Time::max();
  std::uint64_t number = 0;
  friend auto operator<=>(const Place&, const Place&) = default;
};

struct Waiter {
  RequestId request = 0;
  int priority = 0;
  Time deadline = Time::max();
  Place place;
};

// Who may still go to a model that is to make way for another one: who came before `before`, and
// the first so many of all.
struct Cutoff {
  Place before;
  std::uint64_t number = 0;
  bool lets_pass(const Place& place) const { return place < before || place.number <= number; }
};

class WaitQueue {
 public:
  void push(const Waiter& waiter);
  bool remove(RequestId request);
  // The next one, if there is a cutoff the oldest one that it lets pass.
  std::optional<Waiter> pop(Time now, Duration too_long, const std::optional<Cutoff>& cutoff);
  std::vector<Waiter> take_expired(Time now);
  std::vector<Waiter> take_all();

  bool empty() const { return waiters_.empty(); }
  std::size_t size() const { return waiters_.size(); }
  // The following ones of a queue that is not empty.
  const Place& oldest() const { return oldest_; }
  Time first_deadline() const { return first_deadline_; }
  int highest_priority() const { return waiters_.front().priority; }

 private:
  Waiter take(std::vector<Waiter>::iterator position);
  void look_again();

  std::vector<Waiter> waiters_;  // In their order.
  Place oldest_;
  Time first_deadline_ = Time::max();
};

}  // namespace yoke::scheduler
