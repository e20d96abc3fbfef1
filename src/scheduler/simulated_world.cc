#include "scheduler/simulated_world.h"

#include <algorithm>
#include <functional>

#include <fmt/format.h>

namespace yoke::scheduler {
namespace {

constexpr std::uint64_t kGiB = 1u << 30;
constexpr Duration kLongestLoad{8'000};
constexpr Duration kLongestStop{1'000};
constexpr Duration kLongestAnswer{6'000};
constexpr std::size_t kMaxWaiting = 6;
constexpr std::size_t kMaxPromisesReported = 5;

template <class T>
const T* as(const Event& event) {
  return std::get_if<T>(&event);
}

void mix(std::uint64_t& hash, std::uint64_t value) { hash = (hash ^ value) * 0x100000001b3u; }

void mix(std::uint64_t& hash, std::string_view text) {
  for (const char c : text) mix(hash, static_cast<unsigned char>(c));
}

Run run_of(const Event& event) {
  if (const auto* e = as<EngineReady>(event)) return e->run;
  if (const auto* e = as<EngineFailed>(event)) return e->run;
  if (const auto* e = as<EngineStopped>(event)) return e->run;
  if (const auto* e = as<MemoryMeasured>(event)) return e->run;
  return 0;
}

}  // namespace

SimulatedWorld::SimulatedWorld(std::uint64_t seed, Limits limits)
    : limits_(limits), random_(seed), now_(Duration(1'000'000)) {}

void SimulatedWorld::expect(bool held, const std::string& promise) {
  if (held || outcome_.broken_promises.size() >= kMaxPromisesReported) return;
  outcome_.broken_promises.push_back(fmt::format("step {}: {}", outcome_.steps, promise));
}

ModelSpec SimulatedWorld::random_spec(std::size_t i) {
  ModelSpec spec;
  spec.name = fmt::format("m{}", i);
  spec.revision = fmt::format("r{}", below(1000));
  spec.needs = {{0, (1 + below(limits_.wild && chance(10) ? 40 : 20)) * kGiB}};
  if (chance(30)) spec.needs.push_back({1, below(9) * kGiB});
  spec.load_time = chance(50) ? up_to(kLongestLoad) : Duration(0);
  spec.priority = static_cast<int>(below(4)) - 1;
  if (chance(40)) spec.group = chance(50) ? "a" : "b";
  if (chance(40)) spec.idle_timeout = up_to(Duration(20'000));
  spec.preload = chance(20);
  spec.pinned = limits_.wild && chance(8);
  if (limits_.slots) spec.max_active = 1 + below(3);
  spec.max_waiting = limits_.slots ? kMaxWaiting : 512;
  return spec;
}

void SimulatedWorld::set_up() {
  happen(PoolChanged{0, "GPU", 24 * kGiB});
  happen(PoolChanged{1, "host", 12 * kGiB});
  GroupsChanged groups;
  if (chance(50)) groups.exclusive.emplace_back("a", "a");
  if (chance(50)) groups.exclusive.emplace_back("a", "b");
  happen(groups);
  ModelsChanged models;
  const std::size_t count = 2 + below(9);
  for (std::size_t i = 0; i < count; ++i) {
    models.set.push_back(random_spec(i));
    names_.push_back(models.set.back().name);
  }
  happen(models);
}

// The load is heavy enough that there is always somebody waiting, and light enough to finish.
void SimulatedWorld::arrive() {
  RequestArrived event;
  event.request = ++last_request_;
  const std::size_t popular = below(names_.size());
  event.model = names_[chance(50) ? std::min<std::size_t>(popular, 1) : popular];
  event.priority = static_cast<int>(below(3));
  if (limits_.wild && chance(30)) event.deadline = now_ + up_to(Duration(30'000));
  if (limits_.wild && chance(2)) event.model = "nobody";
  happen(event);
}

void SimulatedWorld::act() {
  if (limits_.wild && chance(6)) return act_wildly();
  if (!recent_.empty() && chance(12)) {
    const RequestId request = recent_[below(recent_.size())];
    return happen(RequestCancelled{request});
  }
  arrive();
}

void SimulatedWorld::act_wildly() {
  const std::string& name = names_[below(names_.size())];
  switch (below(10)) {
    case 0:
      return happen(Load{name});
    case 1:
      return happen(Unload{name});
    case 2:
      return happen(Pin{name});
    case 3:
    case 4:
      return happen(Unpin{name});
    case 5:
      return happen(PoolChanged{0, "GPU", (18 + below(12)) * kGiB});
    case 6: {
      ModelsChanged event;
      event.set.push_back(random_spec(below(names_.size())));
      return happen(event);
    }
    case 7:
      return happen(ModelsChanged{{}, {name}});
    case 8: {
      ModelsChanged event;  // The same again, some of them with another priority.
      for (const auto& [model_name, model] : models_) {
        if (!model.there) continue;
        event.set.push_back(model.spec);
        if (chance(30)) event.set.back().priority = static_cast<int>(below(5));
      }
      return happen(event);
    }
    default: {
      if (engines_.empty()) return;
      auto engine = engines_.begin();
      std::advance(engine, static_cast<std::ptrdiff_t>(below(engines_.size())));
      Needs needs = engine->second.held;
      for (Need& need : needs) need.bytes = need.bytes / 8 * (6 + below(4));
      return happen(MemoryMeasured{engine->first, needs});
    }
  }
}

// What was planned for an engine or request that has met another end meanwhile.
bool SimulatedWorld::is_stale(const Event& event) const {
  if (const auto* ended = as<RequestEnded>(event)) return !requests_.contains(ended->request);
  const Run run = run_of(event);
  if (run == 0) return false;
  const auto engine = engines_.find(run);
  if (engine == engines_.end()) return true;
  if (as<EngineReady>(event) != nullptr) return engine->second.life != Life::kStarting;
  // Now and then one dies that is being stopped.
  return false;
}

// What the event means for the world, before the scheduler is told.
void SimulatedWorld::note(const Event& event) {
  if (const auto* e = as<PoolChanged>(event)) budgets_[e->pool] = e->budget;
  if (const auto* e = as<GroupsChanged>(event)) {
    for (const auto& [a, b] : e->exclusive) exclusive_.insert({{a, b}, {b, a}});
  }
  if (const auto* e = as<ModelsChanged>(event)) {
    for (const std::string& name : e->removed) models_[name].there = false;
    for (const ModelSpec& spec : e->set) {
      ModelState& model = models_[spec.name];
      const bool other =
          !model.there || model.spec.revision != spec.revision || model.spec.needs != spec.needs;
      if (!model.there || model.spec.pinned != spec.pinned) model.user_pin.reset();
      model.there = true;
      model.spec = spec;
      if (other || model.needs.empty()) model.needs = spec.needs;
    }
  }
  if (const auto* e = as<RequestArrived>(event)) {
    requests_[e->request] = {e->model, now_, e->deadline};
    ++outcome_.requests;
    recent_.push_back(e->request);
    if (recent_.size() > 20) recent_.erase(recent_.begin());
  }
  const auto leave = [this](RequestId id) {
    const auto request = requests_.find(id);
    if (request == requests_.end()) return;
    if (const auto engine = engines_.find(request->second.run); engine != engines_.end()) {
      engine->second.active.erase(id);
    }
    requests_.erase(request);
  };
  if (const auto* e = as<RequestCancelled>(event)) leave(e->request);
  if (const auto* e = as<RequestEnded>(event)) leave(e->request);
  if (const auto* e = as<Pin>(event)) models_[e->model].user_pin = true;
  if (const auto* e = as<Unpin>(event)) models_[e->model].user_pin = false;
  if (const auto* e = as<Unload>(event)) models_[e->model].user_pin = false;
  if (as<EngineReady>(event) != nullptr) engines_.at(run_of(event)).life = Life::kReady;
  if (const auto* e = as<MemoryMeasured>(event)) {
    Engine& engine = engines_.at(e->run);
    engine.held = e->needs;
    ModelState& model = models_[engine.model];
    if (model.spec.revision == engine.revision) model.needs = e->needs;
  }
  if (as<EngineFailed>(event) != nullptr || as<EngineStopped>(event) != nullptr) {
    const auto engine = engines_.find(run_of(event));
    for (const RequestId id : engine->second.active) requests_.erase(id);
    if (const auto* e = as<EngineFailed>(event); e != nullptr && !e->needs.empty()) {
      ModelState& model = models_[engine->second.model];
      if (model.spec.revision == engine->second.revision &&
          engine->second.life != Life::kStopping) {
        model.needs = e->needs;
      }
    }
    engines_.erase(engine);
  }
}

void SimulatedWorld::happen(const Event& event) {
  note(event);
  ++outcome_.steps;
  for (const Effect& effect : scheduler_.handle(now_, event)) carry_out(effect);
}

void SimulatedWorld::carry_out(const Effect& effect) {
  mix(outcome_.fingerprint, effect.index());
  if (const auto* start = std::get_if<Start>(&effect)) carry_out(*start);
  if (const auto* stop = std::get_if<Stop>(&effect)) carry_out(*stop);
  if (const auto* dispatch = std::get_if<Dispatch>(&effect)) carry_out(*dispatch);
  if (const auto* reject = std::get_if<Reject>(&effect)) carry_out(*reject);
  if (const auto* wake = std::get_if<WakeAt>(&effect)) {
    wake_ = wake->time;
    mix(outcome_.fingerprint, static_cast<std::uint64_t>(wake_.time_since_epoch().count()));
  }
}

bool SimulatedWorld::excluded(const std::string& a, const std::string& b) const {
  return exclusive_.contains({models_.at(a).spec.group, models_.at(b).spec.group});
}

std::uint64_t SimulatedWorld::held_of(PoolId pool) const {
  std::uint64_t held = 0;
  for (const auto& [run, engine] : engines_) {
    for (const Need& need : engine.held) held += need.pool == pool ? need.bytes : 0;
  }
  return held;
}

void SimulatedWorld::carry_out(const Start& start) {
  ++outcome_.starts;
  mix(outcome_.fingerprint, start.model);
  const ModelState& model = models_[start.model];
  expect(model.there, "started a model that is not there: " + start.model);
  for (const auto& [run, engine] : engines_) {
    expect(engine.model != start.model, "started twice: " + start.model);
    expect(!excluded(engine.model, start.model),
           fmt::format("{} started beside {}", start.model, engine.model));
  }
  for (const Need& need : model.needs) {
    expect(need.bytes == 0 || held_of(need.pool) + need.bytes <= budgets_[need.pool],
           fmt::format("{} started beyond the budget of pool {}", start.model, need.pool));
  }
  engines_[start.run] = {start.model, model.spec.revision, model.needs, Life::kStarting, {}};
  const auto takes = up_to(kLongestLoad);
  if (!limits_.wild || closing_ || !chance(20)) {
    later(takes, EngineReady{start.run});
    if (limits_.wild && !closing_ && chance(15)) {
      later(takes + up_to(Duration(10'000)), EngineFailed{start.run,
                                                          FailureKind::kRetryLater,
                                                          {kInternal, "It crashed."},
                                                          up_to(Duration(2'000))});
    }
    return;
  }
  EngineFailed failed{
      start.run, FailureKind::kRetryLater, {kInternal, "It did not load."}, up_to(Duration(5'000))};
  if (chance(30)) failed.kind = FailureKind::kGivenUp;
  if (chance(30)) {
    failed.kind = FailureKind::kNeedsMore;
    failed.needs = model.needs;
    for (Need& need : failed.needs) need.bytes += need.bytes / 8 + 1;
  }
  later(takes, failed);
}

void SimulatedWorld::carry_out(const Stop& stop) {
  mix(outcome_.fingerprint, stop.run);
  const auto found = engines_.find(stop.run);
  expect(found != engines_.end() && found->second.life != Life::kStopping,
         "stopped what does not run: " + stop.model);
  if (found == engines_.end()) return;
  Engine& engine = found->second;
  expect(engine.active.empty(), "stopped while it answers: " + stop.model);
  const bool asked = stop.reason == StopReason::kAsked || stop.reason == StopReason::kReplaced ||
                     stop.reason == StopReason::kRemoved;
  expect(asked || engine.life == Life::kReady, "evicted while it loads: " + stop.model);
  expect(asked || !models_[stop.model].pinned(), "evicted although pinned: " + stop.model);
  if (stop.reason == StopReason::kEvicted) ++outcome_.evictions;
  engine.life = Life::kStopping;
  later(up_to(kLongestStop), EngineStopped{stop.run});
}

void SimulatedWorld::carry_out(const Dispatch& dispatch) {
  ++outcome_.dispatched;
  mix(outcome_.fingerprint, dispatch.request);
  const auto request = requests_.find(dispatch.request);
  expect(request != requests_.end() && request->second.waiting,
         "answered twice, or without asking");
  const auto engine = engines_.find(dispatch.run);
  expect(engine != engines_.end() && engine->second.life == Life::kReady &&
             engine->second.model == dispatch.model,
         "dispatched to an engine that is not ready: " + dispatch.model);
  if (request == requests_.end() || engine == engines_.end()) return;
  expect(request->second.model == dispatch.model, "dispatched to another model");
  expect(request->second.deadline > now_, "dispatched after its deadline");
  request->second.waiting = false;
  request->second.run = dispatch.run;
  engine->second.active.insert(dispatch.request);
  const std::size_t slots = models_[dispatch.model].spec.max_active;
  expect(limits_.wild || slots == 0 || engine->second.active.size() <= slots,
         "more than its slots");
  const auto waited = std::chrono::duration_cast<Duration>(now_ - request->second.arrived);
  outcome_.longest_wait = std::max(outcome_.longest_wait, waited);
  if (waited > Options{}.max_patience) ++outcome_.turns;
  later(up_to(kLongestAnswer), RequestEnded{dispatch.request});
}

void SimulatedWorld::carry_out(const Reject& reject) {
  ++outcome_.rejected;
  mix(outcome_.fingerprint, reject.error.message);
  const auto request = requests_.find(reject.request);
  expect(request != requests_.end() && request->second.waiting,
         "rejected twice, or without asking");
  if (request == requests_.end()) return;
  const auto code = reject.error.code;
  expect(limits_.wild || code == kModelBusy, "rejected: " + reject.error.text());
  expect(code != kModelLoading || request->second.deadline <= now_, "rejected before its deadline");
  requests_.erase(request);
}

// Each other model may have its turn before, once, and one more than that has it at that moment.
// A turn: one that is to go waits for memory, loads, serves for its patience and then answers what
// waited; it is stopped, and the other one loads. With few slots, all that waits is answered one
// after the other in the worst case.
Duration SimulatedWorld::longest_fair_wait() const {
  const auto models = static_cast<int>(names_.size());
  const int rounds = limits_.slots ? static_cast<int>(kMaxWaiting) + 1 : 1;
  return Options{}.max_patience + (models + 1) * (2 * kLongestLoad + 2 * kLongestStop +
                                                  Options{}.max_patience + rounds * kLongestAnswer);
}

std::string SimulatedWorld::state() const {
  std::string text;
  for (const ModelStatus& model : scheduler_.models(now_)) {
    text += fmt::format("\n  {} {}: {} active, {} waiting, {}", model.name, name_of(model.state),
                        model.active, model.waiting, describe(model.next, now_));
    for (const Need& need : model.needs) text += fmt::format(", {} of {}", need.bytes, need.pool);
    text += fmt::format(", group '{}'", models_.at(model.name).spec.group);
  }
  return text;
}

SimulatedWorld::Outcome SimulatedWorld::run() {
  set_up();
  const auto waiting = [this] {
    return std::ranges::any_of(requests_, [](const auto& entry) { return entry.second.waiting; });
  };
  Time last_act = now_;
  while (true) {
    closing_ = outcome_.steps >= limits_.steps;
    if (closing_ && requests_.empty()) break;
    const Time next_planned = planned_.empty() ? Time::max() : planned_.top().time;
    const Time next_act = closing_ ? Time::max() : last_act + up_to(Duration(600));
    const Time next = std::min({next_planned, next_act, wake_});
    if (next == Time::max()) {
      expect(!waiting(), "deadlock: a request waits, and nothing will happen:" + state());
      break;
    }
    if (closing_ && next - last_act > 4 * longest_fair_wait()) {
      expect(false, "a request waits for ever:" + state());
      break;
    }
    now_ = std::max(now_, next);
    if (next == next_planned) {
      const Event event = planned_.top().event;
      planned_.pop();
      if (!is_stale(event)) happen(event);
    } else if (next == wake_) {
      wake_ = Time::max();
      happen(Tick{});
      expect(wake_ > now_, "wants to be woken at once");
    } else {
      last_act = now_;
      act();
    }
  }
  if (!limits_.wild) {
    expect(outcome_.longest_wait <= longest_fair_wait(),
           fmt::format("a request waited for {} ms", outcome_.longest_wait.count()));
  }
  return outcome_;
}

}  // namespace yoke::scheduler
