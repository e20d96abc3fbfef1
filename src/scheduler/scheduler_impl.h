// The insides of the Scheduler: the steps of a decision. Only for this module's sources.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "scheduler/eviction.h"
#include "scheduler/ledger.h"
#include "scheduler/model.h"
#include "scheduler/scheduler.h"

namespace yoke::scheduler {

struct Scheduler::Impl {
  explicit Impl(Options given) : options(given) {}

  void on(const PoolChanged& event);
  void on(const GroupsChanged& event);
  void on(const ModelsChanged& event);
  void on(const RequestArrived& event);
  void on(const RequestCancelled& event) { leave(event.request); }
  void on(const RequestEnded& event) { leave(event.request); }
  void on(const EngineReady& event);
  void on(const EngineFailed& event);
  void on(const EngineStopped& event);
  void on(const MemoryMeasured& event);
  void on(const Load& event);
  void on(const Unload& event);
  void on(const Pin& event);
  void on(const Unpin& event);
  void on(const Tick&) {}

  // Changes of what there is.
  Model* find(std::string_view name);
  Model* find(Run run);
  void put(const ModelSpec& spec);
  void change(Model& model, const ModelSpec& spec);
  void remove(Model& model);
  void find_rivals();
  void forget_removed();

  // Requests.
  void leave(RequestId request);
  void reject(const Waiter& waiter, const Error& error, Duration retry_after);
  void reject_waiters(Model& model, const Error& error, Duration retry_after);
  void reject_expired();
  void dispatch(Model& model);
  void dispatch_all();

  // Lives of engines.
  void set_state(Model& model, State state);
  void hold(Model& model, Amounts amounts);
  void want(Model& model);
  void end(Model& model, Ending ending);
  void take_back_unload(Model& model);
  void spare_pinned(Model& model);
  void stop(Model& model, Ending ending);
  void finish_run(Model& model);
  void forget_failure(Model& model);
  void take_failure(Model& model, const EngineFailed& event);
  void stop_done();
  void relieve_budgets();
  void part_rivals();

  // Admission: admission.cc.
  struct Turn {
    Model* holder = nullptr;
    std::vector<Model*> victims;
  };
  // Of a model to be loaded; they come in the order of the members.
  struct Claim {
    bool in_time = true;          // It has not waited for its patience yet.
    bool can_do_without = false;  // Nobody is evicted for it.
    int order = 0;
    Place place;
    Model* model = nullptr;
  };
  // What a claim may count on at this moment.
  struct Chances {
    std::vector<Model*> idle;
    Amounts taken_beside_turn;
  };
  using Pins = std::vector<const Model*>;
  std::vector<Claim> claims();
  void serve_claims();
  Chances find_chances();
  bool try_admit(Model& model, const Chances& chances);
  Pins find_pins() const;
  bool is_possible(Model& model, const Pins& pins);
  std::optional<Error> impossible(const Model& model, const Pins& pins) const;
  void take_turn(Model& model);
  void make_way();
  void end_turn();
  bool turn_holds() const;
  Amounts taken_after_endings() const;
  // Whom the model's place can be had from by waiting; none if that does not suffice.
  std::optional<std::vector<const Model*>> in_the_way(const Model& model) const;
  double cost(const Model& model) const;
  void start_admitted();
  bool evictable(const Model& model) const;
  // Of one that yields.
  Cutoff cutoff_for(const Model& model) const { return {turn.holder->place(), model.batch}; }
  bool overdue(const Model& model) const;
  Duration patience(const Model& model) const;

  void settle();
  Time next_wake() const;
  NextAction next_action(const Model& model) const;
  NextAction next_of_unloaded(const Model& model) const;

  struct RequestState {
    Model* model = nullptr;
    bool active = false;
  };

  const Options options;
  Time now{};
  Ledger ledger;
  std::map<std::string, Model, std::less<>> by_name;
  std::map<Run, Model*> by_run;
  std::unordered_map<RequestId, RequestState> requests;
  std::set<std::pair<std::string, std::string>> exclusive;
  Turn turn;
  bool check_budgets = false;
  bool check_rivals = false;
  bool dispatch_again = false;
  Run last_run = 0;
  std::uint64_t last_place = 0;
  Time last_wake = Time::max();
  std::vector<Effect> effects;
};

}  // namespace yoke::scheduler
