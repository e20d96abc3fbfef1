#include "scheduler/scheduler.h"

#include <algorithm>
#include <ranges>

#include <fmt/format.h>

#include "scheduler/scheduler_impl.h"

namespace yoke::scheduler {
namespace {

// Of a model of which nothing is known but its size: as fast as a usual SSD reads it.
constexpr std::uint64_t kBytesPerMs = 1'000'000;
constexpr Duration kLoadOverhead{1'000};
constexpr Duration kRetrySoon{1'000};

Duration load_time_of(const ModelSpec& spec) {
  if (spec.load_time > Duration(0)) return spec.load_time;
  std::uint64_t bytes = 0;
  for (const Need& need : spec.needs) bytes += need.bytes / kBytesPerMs;
  return kLoadOverhead + Duration(std::min<std::uint64_t>(bytes, 86'400'000));
}

// What is tried after a start that ran out of memory.
Amounts more_than(const Amounts& needs, const Amounts& said) {
  Amounts grown = needs;
  if (said.empty()) {
    for (std::uint64_t& bytes : grown) bytes += bytes == 0 ? 0 : bytes / 8 + 1;
    return grown;
  }
  grown.resize(std::max(grown.size(), said.size()));
  for (std::size_t i = 0; i < said.size(); ++i) grown[i] = std::max(grown[i], said[i]);
  return grown;
}

}  // namespace

Place Model::place() const {
  if (queue.empty()) return wanted_since;
  return asked || pinned() ? std::min(wanted_since, queue.oldest()) : queue.oldest();
}

int Model::priority() const {
  return spec.priority + (queue.empty() ? 0 : std::max(0, queue.highest_priority()));
}

Model* Scheduler::Impl::find(std::string_view name) {
  const auto found = by_name.find(name);
  return found == by_name.end() || found->second.removed ? nullptr : &found->second;
}

Model* Scheduler::Impl::find(Run run) {
  const auto found = by_run.find(run);
  return found == by_run.end() ? nullptr : found->second;
}

// --- What there is ---

void Scheduler::Impl::on(const PoolChanged& event) {
  ledger.set_pool(event.pool, event.name, event.budget);
  check_budgets = true;
}

void Scheduler::Impl::on(const GroupsChanged& event) {
  exclusive.clear();
  for (const auto& [a, b] : event.exclusive) {
    exclusive.emplace(a, b);
    exclusive.emplace(b, a);
  }
  find_rivals();
}

void Scheduler::Impl::on(const ModelsChanged& event) {
  for (const std::string& name : event.removed) {
    if (Model* model = find(name)) remove(*model);
  }
  for (const ModelSpec& spec : event.set) put(spec);
  find_rivals();
}

void Scheduler::Impl::put(const ModelSpec& spec) {
  const auto [entry, is_new] = by_name.try_emplace(spec.name);
  Model& model = entry->second;
  if (!is_new && !model.removed) return change(model, spec);
  model.removed = false;
  model.user_pin.reset();
  change(model, spec);
  model.warm = spec.preload;
  want(model);
}

void Scheduler::Impl::change(Model& model, const ModelSpec& spec) {
  const bool starts_otherwise = spec.revision != model.spec.revision;
  const bool needs_otherwise = starts_otherwise || spec.needs != model.spec.needs;
  const bool pins_otherwise = spec.pinned != model.spec.pinned;
  if (starts_otherwise || spec.load_time != model.spec.load_time || model.load_time.count() == 0) {
    model.load_time = load_time_of(spec);
  }
  model.spec = spec;
  if (needs_otherwise) {
    model.needs = ledger.amounts_of(spec.needs);
    model.measured = false;
    if (model.state == State::kAdmitted) set_state(model, State::kUnloaded);
  }
  if (pins_otherwise) model.user_pin.reset();
  if (starts_otherwise) forget_failure(model);
  if (pins_otherwise && spec.pinned) want(model);
  spare_pinned(model);
  if (model.state != State::kStarting && model.state != State::kReady) return;
  if (model.run_revision != spec.revision) {
    end(model, {StopReason::kReplaced});
  } else if (model.ending && (model.ending->reason == StopReason::kReplaced ||
                              model.ending->reason == StopReason::kRemoved)) {
    model.ending.reset();
  }
}

void Scheduler::Impl::remove(Model& model) {
  reject_waiters(model,
                 {kModelNotFound, fmt::format("The model '{}' was taken out of the configuration.",
                                              model.spec.name)},
                 Duration(0));
  model.removed = true;
  model.asked = model.warm = false;
  model.user_pin = false;
  if (model.state == State::kAdmitted) set_state(model, State::kUnloaded);
  if (model.state == State::kStarting || model.state == State::kReady) {
    end(model, {StopReason::kRemoved});
  }
}

void Scheduler::Impl::find_rivals() {
  for (auto& [name, model] : by_name) {
    model.rivals.clear();
    for (auto& [other_name, other] : by_name) {
      if (&other == &model || model.spec.group.empty() || other.spec.group.empty()) continue;
      if (exclusive.contains({model.spec.group, other.spec.group})) model.rivals.push_back(&other);
    }
  }
  check_rivals = true;
}

void Scheduler::Impl::forget_removed() {
  const auto gone = std::erase_if(by_name, [](const auto& entry) {
    return entry.second.removed && entry.second.state == State::kUnloaded;
  });
  if (gone > 0) find_rivals();
}

// --- Requests ---

void Scheduler::Impl::on(const RequestArrived& event) {
  if (requests.contains(event.request)) return;
  Waiter waiter{
      event.request, event.priority, event.deadline, {std::min(event.since, now), ++last_place}};
  Model* model = find(event.model);
  if (model == nullptr) {
    return reject(waiter,
                  {kModelNotFound, fmt::format("There is no model '{}' here.", event.model)},
                  Duration(0));
  }
  if (model->given_up && now < model->retry_at) {
    return reject(waiter, model->error.value(), std::chrono::ceil<Duration>(model->retry_at - now));
  }
  if (model->given_up) forget_failure(*model);
  if (model->queue.size() >= std::max<std::size_t>(1, model->spec.max_waiting)) {
    return reject(waiter,
                  {kModelBusy,
                   fmt::format("{} requests wait for the model '{}' already.", model->queue.size(),
                               event.model),
                   "Try again in a while."},
                  kRetrySoon);
  }
  model->queue.push(waiter);
  requests[event.request] = {model, false};
}

void Scheduler::Impl::leave(RequestId request) {
  const auto found = requests.find(request);
  if (found == requests.end()) return;
  const auto [model, active] = found->second;
  requests.erase(found);
  if (!active) {
    model->queue.remove(request);
    return;
  }
  --model->active;
  model->last_used = now;
  if (model->active == 0) model->idle_since = now;
}

void Scheduler::Impl::reject(const Waiter& waiter, const Error& error, Duration retry_after) {
  requests.erase(waiter.request);
  effects.emplace_back(Reject{waiter.request, error, retry_after});
}

void Scheduler::Impl::reject_waiters(Model& model, const Error& error, Duration retry_after) {
  for (const Waiter& waiter : model.queue.take_all()) reject(waiter, error, retry_after);
}

void Scheduler::Impl::reject_expired() {
  for (auto& [name, model] : by_name) {
    if (model.queue.empty() || model.queue.first_deadline() > now) continue;
    const bool answers = model.state == State::kReady && !model.ending && !model.yields;
    const Error error =
        answers ? Error{kModelBusy, fmt::format("The model '{}' answers others.", name),
                        "Try again in a while."}
                : Error{kModelLoading, fmt::format("The model '{}' is not loaded yet.", name),
                        fmt::format("Try again in a while; `yoke ps` shows what it waits for, and "
                                    "`yoke logs {}` how far it is.",
                                    name)};
    for (const Waiter& waiter : model.queue.take_expired(now)) reject(waiter, error, kRetrySoon);
  }
}

void Scheduler::Impl::dispatch(Model& model) {
  if (model.state != State::kReady || model.ending || model.queue.empty()) return;
  std::optional<Cutoff> cutoff;
  if (model.yields) cutoff = cutoff_for(model);
  while (model.spec.max_active == 0 || model.active < model.spec.max_active) {
    const auto waiter = model.queue.pop(now, options.max_patience, cutoff);
    if (!waiter) return;
    requests[waiter->request].active = true;
    ++model.active;
    model.last_used = now;
    effects.emplace_back(Dispatch{waiter->request, model.spec.name, model.run});
  }
}

void Scheduler::Impl::dispatch_all() {
  for (auto& [name, model] : by_name) dispatch(model);
}

// --- Lives of engines ---

void Scheduler::Impl::on(const EngineReady& event) {
  Model* model = find(event.run);
  if (model == nullptr || model->state != State::kStarting) return;
  model->load_time = std::max(Duration(1), std::chrono::ceil<Duration>(now - model->state_since));
  set_state(*model, State::kReady);
  model->idle_since = now;
  model->batch = last_place;
  model->asked = model->warm = false;
  forget_failure(*model);
  check_budgets = check_rivals = true;
}

void Scheduler::Impl::on(const EngineFailed& event) {
  Model* model = find(event.run);
  if (model == nullptr) return;
  // What befell one that was to go says nothing about the next.
  const bool matters = model->state != State::kStopping && !model->ending;
  const bool was_ready = model->state == State::kReady;
  finish_run(*model);
  if (!matters) return;
  if (was_ready) model->warm = true;
  take_failure(*model, event);
}

void Scheduler::Impl::take_failure(Model& model, const EngineFailed& event) {
  model.error = event.error;
  model.retry_at = now + std::max(event.delay, Duration(0));
  const Amounts said = ledger.amounts_of(event.needs);
  if (event.kind == FailureKind::kNeedsMore) {
    model.needs = more_than(model.needs, said);
    model.measured = true;
  } else if (!event.needs.empty()) {
    model.needs = said;
    model.measured = false;
  }
  if (event.kind != FailureKind::kGivenUp) return;
  model.given_up = true;
  model.asked = model.warm = false;
  reject_waiters(model, event.error, std::max(event.delay, Duration(0)));
}

void Scheduler::Impl::on(const EngineStopped& event) {
  if (Model* model = find(event.run)) finish_run(*model);
}

void Scheduler::Impl::on(const MemoryMeasured& event) {
  Model* model = find(event.run);
  if (model == nullptr) return;
  const Amounts amounts = ledger.amounts_of(event.needs);
  hold(*model, amounts);
  if (model->run_revision == model->spec.revision) {
    model->needs = amounts;
    model->measured = true;
  }
  check_budgets = true;
}

void Scheduler::Impl::set_state(Model& model, State state) {
  const auto share_of = [](State of) {
    return of == State::kAdmitted   ? Ledger::Share::kPromised
           : of == State::kStopping ? Ledger::Share::kLeaving
                                    : Ledger::Share::kHeld;
  };
  ledger.leave(model.held, share_of(model.state));
  if (state == State::kAdmitted || state == State::kStarting) model.held = model.needs;
  if (state == State::kUnloaded) model.held.clear();
  ledger.enter(model.held, share_of(state));
  model.state = state;
  model.state_since = now;
}

void Scheduler::Impl::hold(Model& model, Amounts amounts) {
  const auto share =
      model.state == State::kStopping ? Ledger::Share::kLeaving : Ledger::Share::kHeld;
  ledger.leave(model.held, share);
  model.held = std::move(amounts);
  ledger.enter(model.held, share);
}

void Scheduler::Impl::want(Model& model) { model.wanted_since = {now, ++last_place}; }

void Scheduler::Impl::end(Model& model, Ending ending) {
  if (ending.reason == StopReason::kReplaced) model.warm = true;
  model.ending = std::move(ending);
}

void Scheduler::Impl::stop(Model& model, Ending ending) {
  effects.emplace_back(
      Stop{model.spec.name, model.run, ending.reason, std::move(ending.evicted_for)});
  model.ending.reset();
  set_state(model, State::kStopping);
}

void Scheduler::Impl::finish_run(Model& model) {
  if (model.active > 0) {
    std::erase_if(requests, [&](const auto& entry) {
      return entry.second.model == &model && entry.second.active;
    });
    model.last_used = now;
  }
  model.active = 0;
  model.ending.reset();
  by_run.erase(model.run);
  model.run = 0;
  set_state(model, State::kUnloaded);
  want(model);
}

void Scheduler::Impl::forget_failure(Model& model) {
  model.given_up = false;
  model.retry_at = Time::min();
  model.error.reset();
}

// --- Commands ---

void Scheduler::Impl::take_back_unload(Model& model) {
  if (!model.ending || model.ending->reason != StopReason::kAsked) return;
  model.ending.reset();
  if (model.run_revision != model.spec.revision) end(model, {StopReason::kReplaced});
}

// It was to go for the good of others: now they have to go.
void Scheduler::Impl::spare_pinned(Model& model) {
  if (!model.pinned() || !model.ending) return;
  if (model.ending->reason == StopReason::kOverBudget ||
      model.ending->reason == StopReason::kEvicted) {
    model.ending.reset();
    check_budgets = check_rivals = true;
  }
}

void Scheduler::Impl::on(const Load& event) {
  Model* model = find(event.model);
  if (model == nullptr) return;
  take_back_unload(*model);
  model->idle_since = now;
  if (model->stays()) return;
  forget_failure(*model);
  if (!model->wanted_badly()) want(*model);
  model->asked = true;
}

void Scheduler::Impl::on(const Unload& event) {
  Model* model = find(event.model);
  if (model == nullptr) return;
  model->user_pin = false;
  model->asked = model->warm = false;
  reject_waiters(*model,
                 {kModelUnloaded, fmt::format("The model '{}' was unloaded.", event.model),
                  "The next request loads it again."},
                 kRetrySoon);
  if (model->state == State::kAdmitted) set_state(*model, State::kUnloaded);
  if (model->stays()) end(*model, {StopReason::kAsked});
  // It is not to come back by itself.
  if (model->ending && model->ending->reason == StopReason::kReplaced) {
    model->ending->reason = StopReason::kAsked;
  }
}

void Scheduler::Impl::on(const Pin& event) {
  Model* model = find(event.model);
  if (model == nullptr) return;
  if (!model->wanted_badly()) want(*model);
  model->user_pin = true;
  take_back_unload(*model);
  spare_pinned(*model);
}

void Scheduler::Impl::on(const Unpin& event) {
  if (Model* model = find(event.model)) model->user_pin = false;
}

Scheduler::Scheduler(Options options) : impl_(std::make_unique<Impl>(options)) {}
Scheduler::~Scheduler() = default;
Scheduler::Scheduler(Scheduler&&) noexcept = default;
Scheduler& Scheduler::operator=(Scheduler&&) noexcept = default;

std::vector<Effect> Scheduler::handle(Time now, const Event& event) {
  impl_->now = std::max(impl_->now, now);
  std::visit([this](const auto& what) { impl_->on(what); }, event);
  impl_->settle();
  return std::exchange(impl_->effects, {});
}

}  // namespace yoke::scheduler
