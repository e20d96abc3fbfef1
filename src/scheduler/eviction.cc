#include "scheduler/eviction.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>

namespace yoke::scheduler {
namespace {

// A model that nobody used for so long is half as likely to be used next as one of just now.
constexpr std::chrono::duration<double> kUnusedForHalf = std::chrono::minutes(5);
constexpr int kMaxPriorityStep = 20;

bool frees_any(const Amounts& frees, const Amounts& missing) {
  for (std::size_t i = 0; i < missing.size(); ++i) {
    if (missing[i] > 0 && at(frees, i) > 0) return true;
  }
  return false;
}

bool covers(const Amounts& frees, const Amounts& missing) {
  for (std::size_t i = 0; i < missing.size(); ++i) {
    if (at(frees, i) < missing[i]) return false;
  }
  return true;
}

// Depth first, cheap ones first, cut off where a branch can't become the best.
class Search {
 public:
  Search(const std::vector<Candidate>& candidates, const Amounts& missing, std::size_t max_tried)
      : candidates_(candidates), left_(max_tried) {
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      if (frees_any(candidates[i].frees, missing)) order_.push_back(i);
    }
    std::ranges::stable_sort(order_, {}, [&](std::size_t i) { return candidates[i].cost; });
    rest_.resize(order_.size() + 1);
    for (std::size_t depth = order_.size(); depth-- > 0;) {
      rest_[depth] = rest_[depth + 1];
      add(rest_[depth], candidates_[order_[depth]].frees);
    }
  }

  std::optional<std::vector<std::size_t>> run(const Amounts& missing) {
    if (!covers(rest_.front(), missing)) return std::nullopt;
    take_greedily(missing);
    visit(0, missing, 0);
    std::ranges::sort(best_);
    return best_;
  }

 private:
  // What costs least for the part of the missing that it frees, and then without what turned out to
  // be superfluous: always an answer, if not the best.
  void take_greedily(Amounts missing) {
    std::vector<std::size_t> open = order_;
    while (!is_zero(missing)) {
      const auto next = std::ranges::min_element(
          open, {}, [&](std::size_t i) { return price(candidates_[i], missing); });
      best_.push_back(*next);
      subtract(missing, candidates_[*next].frees);
      open.erase(next);
    }
    best_cost_ = cost_of(best_);
  }

  static double price(const Candidate& candidate, const Amounts& missing) {
    double use = 0;
    for (std::size_t i = 0; i < missing.size(); ++i) {
      if (missing[i] == 0) continue;
      const auto freed = std::min(at(candidate.frees, i), missing[i]);
      use += static_cast<double>(freed) / static_cast<double>(missing[i]);
    }
    return use > 0 ? candidate.cost / use : std::numeric_limits<double>::max();
  }

  double cost_of(const std::vector<std::size_t>& set) const {
    return std::accumulate(set.begin(), set.end(), 0.0,
                           [&](double sum, std::size_t i) { return sum + candidates_[i].cost; });
  }

  void visit(std::size_t depth, const Amounts& missing, double cost) {
    if (left_ == 0) return;
    --left_;
    if (is_zero(missing)) {
      best_ = chosen_;
      best_cost_ = cost;
      return;
    }
    if (depth == order_.size() || !covers(rest_[depth], missing)) return;
    const Candidate& candidate = candidates_[order_[depth]];
    // Those behind cost at least as much as this one.
    if (cost + candidate.cost >= best_cost_) return;
    Amounts still_missing = missing;
    subtract(still_missing, candidate.frees);
    chosen_.push_back(order_[depth]);
    visit(depth + 1, still_missing, cost + candidate.cost);
    chosen_.pop_back();
    visit(depth + 1, missing, cost);
  }

  const std::vector<Candidate>& candidates_;
  std::size_t left_;
  std::vector<std::size_t> order_;
  std::vector<Amounts> rest_;  // What all from this depth on free together.
  std::vector<std::size_t> chosen_;
  std::vector<std::size_t> best_;
  double best_cost_ = 0;
};

}  // namespace

double eviction_cost(Duration load_time, Duration unused, int priority) {
  const std::chrono::duration<double> to_load = load_time + Duration(1);
  const std::chrono::duration<double> idle = std::max(unused, Duration(0));
  const int step = std::clamp(priority, -kMaxPriorityStep, kMaxPriorityStep);
  return std::ldexp(to_load.count() / (1 + idle / kUnusedForHalf), step);
}

std::optional<std::vector<std::size_t>> cheapest_set(const std::vector<Candidate>& candidates,
                                                     const Amounts& missing,
                                                     std::size_t max_tried) {
  if (is_zero(missing)) return std::vector<std::size_t>{};
  return Search(candidates, missing, max_tried).run(missing);
}

}  // namespace yoke::scheduler
