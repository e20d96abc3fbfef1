// Who is loaded next, and who has to go for it.
#include <algorithm>
#include <ranges>
#include <tuple>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/units.h"
#include "scheduler/scheduler_impl.h"

namespace yoke::scheduler {
namespace {

bool alive(const Model& model) { return model.state != State::kUnloaded; }

// It will be there as far as anybody knows.
bool comes_or_stays(const Model& model) { return model.state == State::kAdmitted || model.stays(); }

bool goes(const Model& model) { return model.state == State::kStopping || model.ending; }

Amounts larger_of(Amounts a, const Amounts& b) {
  if (a.size() < b.size()) a.resize(b.size());
  for (std::size_t i = 0; i < b.size(); ++i) a[i] = std::max(a[i], b[i]);
  return a;
}

// "3.2 GiB of unified memory and 1 GiB of Radeon 8060S"
std::string list(const Amounts& amounts, const std::vector<Ledger::Pool>& pools) {
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < amounts.size(); ++i) {
    if (amounts[i] == 0) continue;
    const std::string& name = pools[i].name;
    parts.push_back(fmt::format("{} of {}", format_memory(amounts[i]),
                                name.empty() ? fmt::format("pool {}", pools[i].id) : name));
  }
  return fmt::format("{}", fmt::join(parts, " and "));
}

// What a set of candidates frees beyond those that have to go in any case.
Amounts less(Amounts missing, const std::vector<Model*>& musts) {
  for (const Model* model : musts) subtract(missing, model->held);
  return missing;
}

}  // namespace

Duration Scheduler::Impl::patience(const Model& model) const {
  return std::clamp(model.load_time * options.patience_in_loads, options.min_patience,
                    options.max_patience);
}

// What waits for an idle one came too late for it, or is dispatched at the end of this event.
bool Scheduler::Impl::evictable(const Model& model) const {
  const bool idle =
      model.queue.empty() || (model.yields && !cutoff_for(model).lets_pass(model.queue.oldest()));
  return idle && model.state == State::kReady && model.stays() && model.active == 0 &&
         !model.pinned();
}

bool Scheduler::Impl::overdue(const Model& model) const {
  return model.wanted_badly() && now - model.place().since >= patience(model);
}

double Scheduler::Impl::cost(const Model& model) const {
  const Time used = model.active > 0 ? now : model.idle_since;
  const auto unused = std::chrono::duration_cast<Duration>(now - used);
  const double idle_cost = eviction_cost(model.load_time, unused, model.spec.priority);
  return idle_cost * static_cast<double>(1 + model.active);
}

// Those that want to be loaded and can be, at some time; in their order.
std::vector<Scheduler::Impl::Claim> Scheduler::Impl::claims() {
  std::vector<Claim> claims;
  const Pins pins = find_pins();
  for (auto& [name, model] : by_name) {
    if (model.state == State::kAdmitted && !model.wanted()) set_state(model, State::kUnloaded);
    const bool waits = goes(model) && !model.queue.empty();
    const bool wants = model.state == State::kUnloaded && model.wanted() && model.retry_at <= now;
    if ((!waits && !wants) || !is_possible(model, pins) || !wants) continue;
    const bool late = overdue(model);
    const int priority = late ? 0 : model.priority();
    claims.push_back({!late, !model.wanted_badly(), -priority, model.place(), &model});
  }
  std::ranges::sort(claims, {}, [](const Claim& claim) {
    return std::tie(claim.in_time, claim.can_do_without, claim.order, claim.place);
  });
  return claims;
}

void Scheduler::Impl::serve_claims() {
  const std::vector<Claim> all = claims();
  if (all.empty() || turn.holder != all.front().model || all.front().in_time) end_turn();
  if (all.empty()) return;
  Chances chances = find_chances();
  for (const Claim& claim : all) {
    Model& model = *claim.model;
    bool admitted = try_admit(model, chances);
    const bool may_take = turn.holder == nullptr || turn.holder == &model;
    if (!admitted && !claim.in_time && may_take) {
      take_turn(model);
      chances = find_chances();
      admitted = try_admit(model, chances);
    }
    if (admitted) {
      if (turn.holder == &model) end_turn();
      chances = find_chances();
    } else if (claim.can_do_without) {
      model.warm = std::ranges::any_of(by_name, [](const auto& e) { return goes(e.second); });
    }
  }
}

// --- Never ---

// Those that nobody can make go.
Scheduler::Impl::Pins Scheduler::Impl::find_pins() const {
  Pins pins;
  for (const auto& [name, model] : by_name) {
    if (alive(model) && model.pinned()) pins.push_back(&model);
  }
  return pins;
}

std::optional<Error> Scheduler::Impl::impossible(const Model& model, const Pins& pins) const {
  if (const Amounts lack = ledger.lack(model.needs, {}); !is_zero(lack)) {
    return Error{kModelTooLarge,
                 fmt::format("The model '{}' lacks {}, even with nothing else loaded.",
                             model.spec.name, list(lack, ledger.pools())),
                 "`yoke plan` says with which options it would fit; [memory] in the "
                 "configuration says how much models may have."};
  }
  Amounts pinned;
  std::vector<std::string_view> names;
  for (const Model* pin : pins) {
    if (pin == &model) continue;
    add(pinned, pin->held);
    names.push_back(pin->spec.name);
    if (std::ranges::find(model.rivals, pin) == model.rivals.end()) continue;
    return Error{kBlockedByPin,
                 fmt::format("The model '{}' is never loaded beside '{}', which is pinned.",
                             model.spec.name, pin->spec.name),
                 fmt::format("`yoke unpin {}` lets it go.", pin->spec.name)};
  }
  const Amounts lack = ledger.lack(model.needs, pinned);
  if (is_zero(lack)) return std::nullopt;
  return Error{kBlockedByPin,
               fmt::format("The model '{}' lacks {} beside what is pinned: {}.", model.spec.name,
                           list(lack, ledger.pools()), fmt::join(names, ", ")),
               "`yoke unpin MODEL` lets one go."};
}

// Says so to those who wait for it if it isn't.
bool Scheduler::Impl::is_possible(Model& model, const Pins& pins) {
  auto why = impossible(model, pins);
  if (!why) {
    const bool was_impossible =
        model.error && (model.error->code == kModelTooLarge || model.error->code == kBlockedByPin);
    if (was_impossible) model.error.reset();
    return true;
  }
  reject_waiters(model, *why, Duration(0));
  model.asked = model.warm = false;
  model.error = std::move(why);
  return false;
}

// --- Now ---

Scheduler::Impl::Chances Scheduler::Impl::find_chances() {
  Chances chances;
  for (auto& [name, model] : by_name) {
    if (evictable(model)) chances.idle.push_back(&model);
  }
  if (turn.holder == nullptr) return chances;
  // While somebody has its turn, only what leaves enough for that one is to be had.
  chances.taken_beside_turn = taken_after_endings();
  for (const Model* victim : turn.victims) subtract(chances.taken_beside_turn, victim->held);
  add(chances.taken_beside_turn, turn.holder->needs);
  return chances;
}

bool Scheduler::Impl::try_admit(Model& model, const Chances& chances) {
  const bool others_turn = turn.holder != nullptr && turn.holder != &model;
  const auto may_go = [&](const Model& other) {
    return (!other.to_go || !others_turn) && model.wanted_badly();
  };
  if (others_turn && std::ranges::find(model.rivals, turn.holder) != model.rivals.end()) {
    return false;
  }
  std::vector<Model*> musts;
  for (Model* rival : model.rivals) {
    if (!alive(*rival) || rival->state == State::kStopping) continue;
    if (!evictable(*rival) || !may_go(*rival)) return false;
    musts.push_back(rival);
  }
  Amounts missing = ledger.shortfall(model.needs);
  if (others_turn)
    missing = larger_of(std::move(missing), ledger.lack(model.needs, chances.taken_beside_turn));
  missing = less(std::move(missing), musts);

  std::vector<Model*> others;
  std::vector<Candidate> candidates;
  if (!is_zero(missing)) {
    for (Model* other : chances.idle) {
      if (!may_go(*other) || std::ranges::find(musts, other) != musts.end()) continue;
      others.push_back(other);
      candidates.push_back({cost(*other), other->held});
    }
  }
  const auto chosen = cheapest_set(candidates, missing);
  if (!chosen) return false;
  for (Model* rival : musts) stop(*rival, {StopReason::kEvicted, model.spec.name});
  for (const std::size_t i : *chosen) stop(*others[i], {StopReason::kEvicted, model.spec.name});
  set_state(model, State::kAdmitted);
  return true;
}

void Scheduler::Impl::start_admitted() {
  for (auto& [name, model] : by_name) {
    if (model.state != State::kAdmitted || !ledger.fits_now(model.needs)) continue;
    if (std::ranges::any_of(model.rivals, [](const Model* r) { return r->holds_memory(); })) {
      continue;
    }
    model.run = ++last_run;
    model.run_revision = model.spec.revision;
    by_run[model.run] = &model;
    set_state(model, State::kStarting);
    effects.emplace_back(Start{name, model.run});
  }
}

// --- In turn ---

Amounts Scheduler::Impl::taken_after_endings() const {
  Amounts taken = ledger.taken();
  for (const auto& [name, model] : by_name) {
    if (model.ending) subtract(taken, model.held);
  }
  return taken;
}

std::optional<std::vector<const Model*>> Scheduler::Impl::in_the_way(const Model& model) const {
  std::vector<const Model*> in_way;
  Amounts missing = ledger.lack(model.needs, taken_after_endings());
  for (const Model* rival : model.rivals) {
    if (!comes_or_stays(*rival)) continue;
    in_way.push_back(rival);
    subtract(missing, rival->held);
  }
  std::vector<const Model*> others;
  std::vector<Candidate> candidates;
  for (const auto& [name, other] : by_name) {
    if (&other == &model || !comes_or_stays(other) || other.pinned()) continue;
    if (std::ranges::find(in_way, &other) != in_way.end()) continue;
    others.push_back(&other);
    candidates.push_back({cost(other), other.held});
  }
  const auto chosen = cheapest_set(candidates, missing);
  if (!chosen) return std::nullopt;
  for (const std::size_t i : *chosen) in_way.push_back(others[i]);
  return in_way;
}

// Whether its victims are still to be had, and still enough.
bool Scheduler::Impl::turn_holds() const {
  Amounts taken = taken_after_endings();
  for (const Model* victim : turn.victims) {
    if (!comes_or_stays(*victim) || victim->pinned()) return false;
    subtract(taken, victim->held);
  }
  const bool rivals_yield = std::ranges::all_of(turn.holder->rivals, [](const Model* rival) {
    return !comes_or_stays(*rival) || rival->to_go;
  });
  return rivals_yield && is_zero(ledger.lack(turn.holder->needs, taken));
}

void Scheduler::Impl::take_turn(Model& model) {
  if (turn.holder != &model || !turn_holds()) {
    end_turn();
    turn.holder = &model;
    for (const Model* victim : in_the_way(model).value_or(std::vector<const Model*>{})) {
      turn.victims.push_back(&by_name.find(victim->spec.name)->second);
      turn.victims.back()->to_go = true;
    }
  }
  make_way();
}

// Who was loaded not long ago goes on for a while, or nothing but loads would be done.
void Scheduler::Impl::make_way() {
  for (Model* victim : turn.victims) {
    victim->yields =
        victim->state == State::kReady && now - victim->state_since >= patience(*victim);
  }
}

void Scheduler::Impl::end_turn() {
  if (turn.holder == nullptr) return;
  for (Model* victim : turn.victims) victim->to_go = victim->yields = false;
  turn = {};
  dispatch_again = true;
}

// --- What has to go in any case ---

void Scheduler::Impl::relieve_budgets() {
  check_budgets = false;
  if (is_zero(ledger.excess())) return;
  for (auto& [name, model] : by_name) {
    if (model.state == State::kAdmitted) set_state(model, State::kUnloaded);
  }
  Amounts excess = ledger.excess();
  std::vector<Model*> others;
  std::vector<Candidate> candidates;
  for (auto& [name, model] : by_name) {
    if (model.ending) subtract(excess, model.held);
    if (model.state != State::kReady || model.ending || model.pinned()) continue;
    others.push_back(&model);
    candidates.push_back({cost(model), model.held});
  }
  const auto chosen = cheapest_set(candidates, excess);
  for (std::size_t i = 0; i < others.size(); ++i) {
    bool goes = chosen && std::ranges::binary_search(*chosen, i);
    // All that helps, where nothing suffices.
    for (std::size_t pool = 0; !chosen && pool < excess.size(); ++pool) {
      goes = goes || (excess[pool] > 0 && at(others[i]->held, pool) > 0);
    }
    if (goes) end(*others[i], {StopReason::kOverBudget});
  }
}

// The groups have changed under models that run.
void Scheduler::Impl::part_rivals() {
  check_rivals = false;
  for (auto& [name, model] : by_name) {
    for (Model* rival : model.rivals) {
      if (model.state != State::kReady || model.ending || model.pinned()) break;
      if (!rival->stays()) continue;
      const bool dearer =
          rival->state == State::kReady && !rival->pinned() && cost(model) > cost(*rival);
      Model& goes = dearer ? *rival : model;
      end(goes, {StopReason::kEvicted, (dearer ? model : *rival).spec.name});
    }
  }
}

void Scheduler::Impl::stop_done() {
  for (auto& [name, model] : by_name) {
    if (model.state != State::kReady && model.state != State::kStarting) continue;
    if (model.active > 0) continue;
    if (model.ending) {
      stop(model, *model.ending);
      continue;
    }
    const bool idle = model.state == State::kReady && model.queue.empty() && !model.pinned();
    if (idle && model.spec.idle_timeout > Duration(0) &&
        now - model.idle_since >= model.spec.idle_timeout) {
      stop(model, {StopReason::kIdle});
    }
  }
}

// --- All of it ---

void Scheduler::Impl::settle() {
  reject_expired();
  if (check_budgets) relieve_budgets();
  if (check_rivals) part_rivals();
  dispatch_all();
  stop_done();
  serve_claims();
  start_admitted();
  if (std::exchange(dispatch_again, false)) dispatch_all();
  forget_removed();
  if (const Time wake = next_wake(); wake != last_wake) {
    last_wake = wake;
    effects.emplace_back(WakeAt{wake});
  }
}

Time Scheduler::Impl::next_wake() const {
  Time wake = Time::max();
  for (const auto& [name, model] : by_name) {
    if (!model.queue.empty()) wake = std::min(wake, model.queue.first_deadline());
    if (model.state == State::kUnloaded && model.wanted()) {
      const Time late = model.wanted_badly() ? model.place().since + patience(model) : Time::max();
      if (model.retry_at > now) wake = std::min(wake, model.retry_at);
      if (model.retry_at <= now && late > now) wake = std::min(wake, late);
    }
    if (model.to_go && model.state == State::kReady) {
      const Time served = model.state_since + patience(model);
      if (served > now) wake = std::min(wake, served);
    }
    const bool idle = model.state == State::kReady && model.active == 0 && model.queue.empty();
    if (idle && !model.pinned() && model.spec.idle_timeout > Duration(0)) {
      wake = std::min(wake, model.idle_since + model.spec.idle_timeout);
    }
  }
  return wake;
}

}  // namespace yoke::scheduler
