#include "scheduler/ledger.h"

#include <algorithm>
#include <limits>

namespace yoke::scheduler {
namespace {

// Foreign figures may be any number.
std::uint64_t saturating_sum(std::uint64_t a, std::uint64_t b) {
  const std::uint64_t max = std::numeric_limits<std::uint64_t>::max();
  return a > max - b ? max : a + b;
}

}  // namespace

void add(Amounts& to, const Amounts& amounts) {
  if (to.size() < amounts.size()) to.resize(amounts.size());
  for (std::size_t i = 0; i < amounts.size(); ++i) to[i] = saturating_sum(to[i], amounts[i]);
}

void subtract(Amounts& from, const Amounts& amounts) {
  const std::size_t count = std::min(from.size(), amounts.size());
  for (std::size_t i = 0; i < count; ++i) from[i] -= std::min(from[i], amounts[i]);
}

bool is_zero(const Amounts& amounts) {
  return std::ranges::all_of(amounts, [](std::uint64_t bytes) { return bytes == 0; });
}

std::size_t Ledger::index_of(PoolId id) {
  const auto found = std::ranges::find(pools_, id, &Pool::id);
  if (found != pools_.end()) return static_cast<std::size_t>(found - pools_.begin());
  pools_.push_back({id, {}, 0});
  return pools_.size() - 1;
}

void Ledger::set_pool(PoolId id, std::string name, std::uint64_t budget) {
  Pool& pool = pools_[index_of(id)];
  pool.name = std::move(name);
  pool.budget = budget;
}

Amounts Ledger::amounts_of(const Needs& needs) {
  Amounts amounts;
  for (const Need& need : needs) {
    const std::size_t pool = index_of(need.pool);
    if (amounts.size() <= pool) amounts.resize(pool + 1);
    amounts[pool] = saturating_sum(amounts[pool], need.bytes);
  }
  return amounts;
}

Needs Ledger::needs_of(const Amounts& amounts) const {
  Needs needs;
  for (std::size_t i = 0; i < amounts.size(); ++i) {
    if (amounts[i] > 0) needs.push_back({pools_[i].id, amounts[i]});
  }
  return needs;
}

void Ledger::enter(const Amounts& amounts, Share share) {
  add(share == Share::kPromised ? promised_ : held_, amounts);
  if (share == Share::kLeaving) add(leaving_, amounts);
}

void Ledger::leave(const Amounts& amounts, Share share) {
  subtract(share == Share::kPromised ? promised_ : held_, amounts);
  if (share == Share::kLeaving) subtract(leaving_, amounts);
}

Amounts Ledger::taken() const {
  Amounts taken = held_;
  subtract(taken, leaving_);
  add(taken, promised_);
  return taken;
}

Amounts Ledger::shortfall(const Amounts& need) const { return lack(need, taken()); }

Amounts Ledger::excess() const {
  Amounts excess = taken();
  for (std::size_t i = 0; i < excess.size(); ++i)
    excess[i] -= std::min(excess[i], pools_[i].budget);
  return excess;
}

bool Ledger::fits_now(const Amounts& need) const { return is_zero(lack(need, held_)); }

Amounts Ledger::lack(const Amounts& need, const Amounts& taken) const {
  Amounts missing(pools_.size());
  for (std::size_t i = 0; i < pools_.size(); ++i) {
    // A full pool is no obstacle to who needs nothing of it.
    const std::uint64_t wanted = at(need, i) == 0 ? 0 : saturating_sum(at(taken, i), at(need, i));
    missing[i] = wanted > pools_[i].budget ? wanted - pools_[i].budget : 0;
  }
  return missing;
}

}  // namespace yoke::scheduler
