// Ledger: the budgets of memory, and what of them is held, promised and about to come back. Owned
// by the scheduler; on its thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "scheduler/types.h"

namespace yoke::scheduler {

// Bytes by pool, in the ledger's order; pools beyond its end have none.
using Amounts = std::vector<std::uint64_t>;

inline std::uint64_t at(const Amounts& amounts, std::size_t pool) {
  return pool < amounts.size() ? amounts[pool] : 0;
}
void add(Amounts& to, const Amounts& amounts);
// Down to 0 at least.
void subtract(Amounts& from, const Amounts& amounts);
bool is_zero(const Amounts& amounts);

class Ledger {
 public:
  struct Pool {
    PoolId id = 0;
    std::string name;
    std::uint64_t budget = 0;
  };
  enum class Share {
    kPromised,
    kHeld,
    kLeaving,  // Held, and about to come back.
  };

  void set_pool(PoolId id, std::string name, std::uint64_t budget);
  // A pool that nobody told of has no bytes to give.
  Amounts amounts_of(const Needs& needs);
  Needs needs_of(const Amounts& amounts) const;

  void enter(const Amounts& amounts, Share share);
  void leave(const Amounts& amounts, Share share);

  // What is too little for `need`, once all that is leaving is gone and every promise kept.
  Amounts shortfall(const Amounts& need) const;
  // By how much it is over the budgets, once all that is leaving is gone and every promise kept.
  Amounts excess() const;
  // At this moment.
  bool fits_now(const Amounts& need) const;
  // By how much `need` exceeds the budgets less `taken`.
  Amounts lack(const Amounts& need, const Amounts& taken) const;

  const std::vector<Pool>& pools() const { return pools_; }
  const Amounts& held() const { return held_; }  // With what is leaving.
  const Amounts& promised() const { return promised_; }
  // What is held and promised, without what is leaving.
  Amounts taken() const;

 private:
  std::size_t index_of(PoolId id);

  std::vector<Pool> pools_;
  Amounts held_;
  Amounts leaving_;
  Amounts promised_;
};

}  // namespace yoke::scheduler
