// What to evict so that a model fits: the cheapest set. Pure; any thread.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "scheduler/ledger.h"

namespace yoke::scheduler {

// What its loss costs: the time to load it again, less the longer nobody used it, and twice as much
// for each step of priority.
double eviction_cost(Duration load_time, Duration unused, int priority);

struct Candidate {
  double cost = 0;
  Amounts frees;
};

// So many sets are looked at before the best one so far has to do. Enough to be exact for a dozen
// candidates, whatever they are, and usually for many more.
inline constexpr std::size_t kMaxSetsTried = 10'000;

// The candidates (by index, ascending) that together free what is missing at the least cost; of
// equal ones the first found. Empty if nothing is missing; none if all together don't suffice.
std::optional<std::vector<std::size_t>> cheapest_set(const std::vector<Candidate>& candidates,
                                                     const Amounts& missing,
                                                     std::size_t max_tried = kMaxSetsTried);

}  // namespace yoke::scheduler
