#include "supervisor/residents.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/log.h"
#include "base/nearest.h"
#include "engines/model_format.h"
#include "supervisor/resident.h"

namespace yoke::supervisor {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kNamesToList = 10;

bool same_engine(const Engine& a, const Engine& b) {
  return a.install.server == b.install.server && a.install.dir == b.install.dir &&
         a.capabilities.version == b.capabilities.version &&
         a.capabilities.flags == b.capabilities.flags && a.env == b.env && a.driver == b.driver;
}

bool same_choice(const EngineChoice& a, const EngineChoice& b) {
  if (a.reference.has_value() != b.reference.has_value()) return false;
  if (a.reference && !same_engine(*a.reference, *b.reference)) return false;
  return std::ranges::equal(a.engines, b.engines, same_engine);
}

}  // namespace

Residents::Residents(const InstanceContext& context, io::TaskGroup& tasks, Listener listener)
    : context_(context),
      tasks_(tasks),
      listener_(std::move(listener)),
      wake_(context.executor),
      changed_(context.executor),
      stopped_(context.executor) {}

// --- Models ---

Residents::Handle Residents::find_handle(std::string_view model) const {
  const auto found = std::ranges::find_if(residents_, [model](const Handle& resident) {
    return resident->wanted.config.name == model;
  });
  return found == residents_.end() ? nullptr : *found;
}

Residents::Handle Residents::find_run(scheduler::Run run) const {
  for (const auto* list : {&residents_, &retired_}) {
    for (const Handle& resident : *list) {
      if (resident->run == run) return resident;
    }
  }
  return nullptr;
}

std::vector<std::string_view> Residents::names() const {
  std::vector<std::string_view> names;
  for (const Handle& resident : residents_) names.push_back(resident->wanted.config.name);
  return names;
}

Result<Residents::Handle> Residents::known(std::string_view model) const {
  if (Handle resident = find_handle(model)) return resident;
  const std::vector<std::string_view> there = names();
  std::string hint = "GET /v1/models lists the models there are.";
  if (const auto name = nearest(model, there)) {
    hint = fmt::format("Did you mean '{}'?", *name);
  } else if (!there.empty() && there.size() <= kNamesToList) {
    hint = fmt::format("There is {}.", fmt::join(there, ", "));
  }
  return fail(scheduler::kModelNotFound, fmt::format("There is no model '{}' here.", model),
              std::move(hint));
}

Result<Instance*> Residents::find(std::string_view model) const {
  YOKE_TRY(const Handle resident, known(model));
  return resident->instance.get();
}

std::vector<Instance*> Residents::all() const {
  std::vector<Instance*> instances;
  for (const Handle& resident : residents_) instances.push_back(resident->instance.get());
  return instances;
}

Residents::Handle Residents::make(Wanted wanted) {
  auto made = std::make_shared<Resident>();
  // The listener is the instance's, and so goes with the resident.
  Resident* resident = made.get();
  InstanceListener listener;
  listener.on_route = [this] {
    changed_.notify_all();
    listener_.on_route();
  };
  listener.on_log = [this] { listener_.on_log(); };
  listener.on_ready = [this, resident] { feed(scheduler::EngineReady{resident->run}); };
  listener.on_better = [this, resident] { start_anew(*resident); };
  listener.has_neighbours = [this, resident] {
    return std::ranges::any_of(residents_, [resident](const Handle& other) {
      return other.get() != resident && other->run != 0;
    });
  };
  made->wanted = wanted;
  made->instance = std::make_unique<Instance>(context_, std::move(wanted.config),
                                              std::move(wanted.choice), std::move(listener));
  return made;
}

// An eighth more, as far as there is as much.
scheduler::Needs Residents::more_than(scheduler::Needs needs) const {
  for (scheduler::Need& need : needs) {
    for (const scheduler::PoolChanged& pool : pools_->pools()) {
      if (pool.pool != need.pool || need.bytes >= pool.budget) continue;
      need.bytes = std::min(need.bytes + need.bytes / 8, pool.budget);
    }
  }
  return needs;
}

// What its next start takes.
void Residents::plan(Resident& resident) const {
  if (resident.run == 0) {
    resident.planned = needs_of(*resident.instance);
  } else {
    // The instance says what it runs with now.
    resident.planned =
        needs_of(Instance(context_, resident.wanted.config, resident.wanted.choice, {}));
  }
  std::uint64_t bytes = 0;
  for (const scheduler::Need& need : resident.planned) bytes += need.bytes;
  resident.instance->set_planned(bytes);
}

scheduler::Needs Residents::needs_of(const Instance& instance) const {
  const auto start = instance.next_start();
  if (!start) return {};
  scheduler::Needs needs = pools_->needs_of(start->kind, start->backend, start->options);
  if (!start->reference) return needs;
  return max_of(needs, pools_->needs_of(start->kind, "cpu", *start->reference));
}

scheduler::ModelSpec Residents::spec_of(const Resident& resident) const {
  const config::ResidenceConfig& residence = resident.wanted.config.residence;
  scheduler::ModelSpec spec;
  spec.name = resident.wanted.config.name;
  spec.revision = std::to_string(resident.revision);
  spec.needs = resident.planned;
  spec.priority = residence.priority;
  spec.group = residence.group;
  spec.idle_timeout = residence.unload_after;
  spec.pinned = residence.pinned;
  spec.preload = residence.preload;
  spec.max_waiting = residence.max_waiting;
  return spec;
}

void Residents::change(Resident& resident, Wanted wanted, Reload& reload) {
  const std::string name = wanted.config.name;
  const bool starts_otherwise = wanted.config.options != resident.wanted.config.options ||
                                !same_choice(wanted.choice, resident.wanted.choice);
  const bool stays_otherwise = wanted.config.residence != resident.wanted.config.residence;
  resident.wanted = std::move(wanted);
  if (starts_otherwise) {
    ++resident.revision;
    resident.outdated = true;
    reload.restarted.push_back(name);
  } else if (stays_otherwise) {
    reload.changed.push_back(name);
  }
  if (resident.outdated && resident.run == 0) {
    resident.instance->configure(resident.wanted.config, resident.wanted.choice);
    resident.outdated = false;
  }
}

Reload Residents::configure(const MemoryPools& pools,
                            const std::vector<config::GroupConfig>& groups,
                            std::vector<Wanted> models) {
  Reload reload;
  scheduler::ModelsChanged changed;
  pools_ = pools;
  std::vector<Handle> before = std::exchange(residents_, {});
  const auto take = [](std::vector<Handle>& list, const std::string& name) {
    const auto found = std::ranges::find_if(
        list, [&](const Handle& resident) { return resident->wanted.config.name == name; });
    if (found == list.end()) return Handle();
    Handle taken = std::move(*found);
    list.erase(found);
    return taken;
  };
  for (Wanted& wanted : models) {
    const std::string name = wanted.config.name;
    Handle resident = take(before, name);
    const bool is_new = !resident;
    if (is_new) resident = take(retired_, name);  // Its last engine may still be ending.
    Reload of_none;
    if (resident) {
      change(*resident, std::move(wanted), is_new ? of_none : reload);
    } else {
      resident = make(std::move(wanted));
    }
    if (is_new) reload.added.push_back(name);
    plan(*resident);
    changed.set.push_back(spec_of(*resident));
    residents_.push_back(std::move(resident));
  }
  for (Handle& resident : before) {
    reload.removed.push_back(resident->wanted.config.name);
    changed.removed.push_back(resident->wanted.config.name);
    if (resident->run != 0) retired_.push_back(std::move(resident));
  }
  for (const scheduler::PoolChanged& pool : pools_->pools()) feed(pool);
  scheduler::GroupsChanged exclusive;
  for (const config::GroupConfig& group : groups) {
    if (group.one_at_a_time) exclusive.exclusive.emplace_back(group.name, group.name);
    for (const std::string& other : group.not_with) {
      exclusive.exclusive.emplace_back(group.name, other);
    }
  }
  feed(std::move(exclusive));
  feed(std::move(changed));
  listener_.on_route();
  return reload;
}

void Residents::launch() {
  launched_ = true;
  tasks_.spawn(measure());
  feed(scheduler::Tick{});
}

// As if its options were others: it starts again as soon as nothing is being answered.
void Residents::start_anew(Resident& resident) {
  ++resident.revision;
  plan(resident);
  feed(scheduler::ModelsChanged{{spec_of(resident)}, {}});
}

// --- Commands ---

Result<void> Residents::load(std::string_view model) {
  YOKE_TRY(const Handle resident, known(model));
  if (resident->run == 0 && resident->instance->has_new_file()) start_anew(*resident);
  feed(scheduler::Load{std::string(model)});
  return {};
}

Result<void> Residents::unload(std::string_view model) {
  YOKE_CHECK(known(model));
  feed(scheduler::Unload{std::string(model)});
  return {};
}

Result<void> Residents::pin(std::string_view model) {
  YOKE_CHECK(known(model));
  feed(scheduler::Pin{std::string(model)});
  return {};
}

Result<void> Residents::unpin(std::string_view model) {
  YOKE_CHECK(known(model));
  feed(scheduler::Unpin{std::string(model)});
  return {};
}

Result<void> Residents::forgive(std::string_view model, std::string_view backend) {
  YOKE_TRY(const Handle resident, known(model));
  resident->instance->forgive(backend);
  if (resident->run != 0) return {};  // It changes over by itself when it can.
  resident->instance->choose_engine();
  start_anew(*resident);
  return {};
}

// --- What others see ---

RouteTable Residents::routes() const {
  RouteTable table;
  for (const Handle& resident : residents_) table.routes.push_back(resident->instance->route());
  return table;
}

Residency Residents::residency() const {
  Residency residency;
  residency.now = Clock::now();
  residency.models = scheduler_.models(residency.now);
  residency.pools = scheduler_.pools();
  return residency;
}

}  // namespace yoke::supervisor
