// The events and effects of Residents: lives of engines, and the requests that wait for them.
#include <algorithm>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "base/log.h"
#include "io/call_on.h"
#include "supervisor/memory_use.h"
#include "supervisor/resident.h"
#include "supervisor/residents.h"

namespace yoke::supervisor {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// A client sees a dead engine's connection close before the kernel has told of the process's end.
constexpr auto kDeathNotice = 500ms;
constexpr auto kStopGrace = 5s;
constexpr auto kMeasureInterval = 1s;
// Longer than this stands for "when it was mended", and nobody knows when that is.
constexpr auto kLongestRetryAfter = 1h;

scheduler::FailureKind kind_of(LifeEnd::Next next) {
  if (next == LifeEnd::Next::kNeedsMore) return scheduler::FailureKind::kNeedsMore;
  return next == LifeEnd::Next::kGivenUp ? scheduler::FailureKind::kGivenUp
                                         : scheduler::FailureKind::kRetryLater;
}

ReadyEngine ready_engine(const Instance& instance) {
  const Route& route = instance.route();
  return {route.endpoint, route.key, route.kind, route.start, route.load, instance.contexts()};
}

}  // namespace

// Carrying out one event's effects may bring the next: those wait for their turn.
void Residents::feed(scheduler::Event event) {
  if (stopping_) return;
  inbox_.push_back(std::move(event));
  if (feeding_ || !launched_) return;
  feeding_ = true;
  while (!inbox_.empty() && !stopping_) {
    const scheduler::Event next = std::move(inbox_.front());
    inbox_.pop_front();
    for (const auto& effect : scheduler_.handle(Clock::now(), next)) carry_out(effect);
  }
  feeding_ = false;
}

void Residents::carry_out(const scheduler::Effect& effect) {
  std::visit([this](const auto& one) { carry_out(one); }, effect);
}

void Residents::carry_out(const scheduler::Start& start) {
  const Handle resident = find_handle(start.model);
  if (!resident) return;
  if (std::exchange(resident->outdated, false)) {
    resident->instance->configure(resident->wanted.config, resident->wanted.choice);
  }
  resident->run = start.run;
  resident->over = false;
  resident->last_use.reset();
  tasks_.spawn(follow(resident, start.run, resident->instance->live()));
}

void Residents::carry_out(const scheduler::Stop& stop) {
  const Handle resident = find_run(stop.run);
  if (!resident) return;
  if (stop.reason == scheduler::StopReason::kEvicted) resident->instance->count_eviction();
  const std::string whom = stop.evicted_for.empty() ? "" : " for " + stop.evicted_for;
  log::info("Model {}: unloading it ({}{}).", stop.model, scheduler::name_of(stop.reason), whom);
  tasks_.spawn(resident->instance->stop(kStopGrace));
}

void Residents::carry_out(const scheduler::Dispatch& dispatch) {
  const Handle resident = find_run(dispatch.run);
  if (resident) answer(dispatch.request, ready_engine(*resident->instance));
}

void Residents::carry_out(const scheduler::Reject& reject) {
  Error error = reject.error;
  if (reject.retry_after < kLongestRetryAfter) error.retry_after = reject.retry_after;
  answer(reject.request, fail(std::move(error)));
}

void Residents::carry_out(const scheduler::WakeAt& wake) {
  wake_.expires_at(wake.time);
  if (wake.time == scheduler::Time::max()) return;
  wake_.async_wait([this](boost::system::error_code error) {
    if (!error) feed(scheduler::Tick{});
  });
}

void Residents::answer(scheduler::RequestId request, Result<ReadyEngine> result) {
  const auto found = waiting_.find(request);
  if (found == waiting_.end() || found->second->result) return;
  found->second->result = std::move(result);
  found->second->answered.notify_all();
}

// One life of an engine, and what the scheduler is told of its end.
io::Task<void> Residents::follow(Handle resident, scheduler::Run run, io::Task<LifeEnd> life) {
  const std::string backend = resident->instance->route().backend;
  LifeEnd end = co_await std::move(life);
  resident->over = true;
  auto returning = memory_returned(backend, context_.machine, std::move(resident->last_use));
  if (!co_await std::move(returning)) {
    log::warning("Model {}: the memory that its engine had on the GPU is not free yet.",
                 resident->wanted.config.name);
  }
  resident->over = false;
  resident->run = 0;
  std::erase(retired_, resident);
  if (resident->outdated) {
    resident->instance->configure(resident->wanted.config, resident->wanted.choice);
    resident->outdated = false;
  }
  if (end.next == LifeEnd::Next::kStopped) {
    feed(scheduler::EngineStopped{run});
  } else {
    plan(*resident);
    const bool more = end.next == LifeEnd::Next::kNeedsMore;
    feed(scheduler::EngineFailed{run, kind_of(end.next), std::move(end.error), end.delay,
                                 more ? more_than(resident->planned) : resident->planned});
  }
  changed_.notify_all();
}

// What engines really hold, once they are loaded and after they were used.
io::Task<void> Residents::measure() {
  while (!stopping_) {
    co_await stopped_.wait_until(Clock::now() + kMeasureInterval);
    for (const Handle& resident : std::vector<Handle>(residents_)) {
      const Route& route = resident->instance->route();
      const scheduler::Run run = resident->run;
      if (route.state != InstanceState::kReady || run == 0 || stopping_) continue;
      const auto answers = route.load->answers.load(std::memory_order_relaxed);
      if (resident->measured_run == run && resident->measured_answers == answers) continue;
      auto look = [](int pid) -> io::Task<MemoryUse> { co_return memory_use(pid); };
      auto looking = io::call_on(measuring_.at(0).get_executor(), look(route.pid));
      const auto use = co_await std::move(looking);
      if (!use || resident->run != run) continue;
      scheduler::Needs needs = measured_needs(*use, resident->planned, *pools_);
      resident->measured_run = run;
      resident->measured_answers = answers;
      resident->last_use = *use;
      resident->instance->set_held(use->total());
      listener_.on_route();
      feed(scheduler::MemoryMeasured{run, std::move(needs)});
    }
  }
}

// --- Requests ---

io::Task<Result<ReadyEngine>> Residents::wait_for_place(scheduler::RequestId request,
                                                        std::string model, AdmitOptions options) {
  Waiter waiter(context_.executor);
  waiting_[request] = &waiter;
  struct Forget {
    std::map<scheduler::RequestId, Waiter*>& from;
    scheduler::RequestId request;
    ~Forget() { from.erase(request); }
  };
  const Forget forget{waiting_, request};
  // An engine that is dead already must not be handed out again.
  const auto alive_at = Clock::now() + kDeathNotice;
  while (!waiter.result && !stopping_) {
    const Handle resident = find_handle(model);
    if (!resident) break;
    const Route& route = resident->instance->route();
    const bool suspect = route.start == options.failed_start && options.failed_start != 0 &&
                         route.state == InstanceState::kReady && Clock::now() < alive_at;
    if (!suspect && !resident->over) break;
    co_await changed_.wait_until(suspect ? alive_at : Clock::now() + kDeathNotice);
  }
  if (!waiter.result && !stopping_) {
    YOKE_CO_TRY(const Handle resident, known(model));
    if (resident->run == 0 && resident->instance->has_new_file()) start_anew(*resident);
    feed(scheduler::RequestArrived{request, model, 0, options.deadline, options.since});
  }
  while (!waiter.result && !stopping_) {
    co_await waiter.answered.wait_until(Clock::time_point::max());
  }
  if (waiter.result) co_return std::move(*waiter.result);
  co_return fail(kShuttingDown, "This server is shutting down.");
}

void Residents::give_back(scheduler::RequestId request) {
  answer(request, fail(kCancelled, "The request was cancelled."));
  feed(scheduler::RequestEnded{request});
}

void Residents::end_waits() {
  stopping_ = true;
  stopped_.notify_all();
  for (const auto& [request, waiter] : waiting_) waiter->answered.notify_all();
  changed_.notify_all();
}

void Residents::stop_all(std::chrono::milliseconds grace) {
  end_waits();
  wake_.cancel();
  for (const auto* list : {&residents_, &retired_}) {
    for (const Handle& resident : *list) {
      if (resident->run != 0) tasks_.spawn(resident->instance->stop(grace));
    }
  }
}

}  // namespace yoke::supervisor
