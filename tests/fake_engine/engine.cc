#include "fake_engine/engine.h"

#include <algorithm>
#include <chrono>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utility>

#include "fake_engine/clock.h"
#include "fake_engine/token_text.h"

namespace fake_engine {
namespace {

// What llama-server takes when nobody says how many slots it should have.
constexpr int kAutomaticSlots = 4;

size_t slot_count(const Options& options, const Behaviour& behaviour) {
  if (behaviour.slots > 0) return static_cast<size_t>(behaviour.slots);
  return static_cast<size_t>(options.parallel > 0 ? options.parallel : kAutomaticSlots);
}

// What a slot's state depends on: the model, the build and the cache's types.
uint64_t cache_stamp(const Options& options, const Behaviour& behaviour) {
  return fnv1a64(options.cache_types + behaviour.version + std::to_string(behaviour.model_seed));
}

void make_readable(int event_fd) {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(event_fd, &one, sizeof one);
}

}  // namespace

Engine::Engine(Options options, Behaviour behaviour, std::vector<pid_t> children)
    : options_(std::move(options)),
      behaviour_(std::move(behaviour)),
      children_(std::move(children)),
      stop_fd_(eventfd(0, EFD_CLOEXEC)),
      slots_(slot_count(options_, behaviour_)),
      cache_(slots_.size(), cache_stamp(options_, behaviour_), behaviour_.ram_cache) {}

void Engine::stop() { make_readable(stop_fd_); }

void Engine::break_down(int status, const std::string& message) {
  const std::lock_guard lock(breakdown_mutex_);
  breakdown_ = Breakdown{status, message};
}

std::optional<Engine::Breakdown> Engine::breakdown() const {
  const std::lock_guard lock(breakdown_mutex_);
  return breakdown_;
}

void Engine::connection_opened() {
  ++counters_.connections_total;
  ++counters_.connections_open;
}

void Engine::connection_closed() {
  const std::lock_guard lock(connections_mutex_);
  --counters_.connections_open;
  connection_closed_.notify_all();
}

bool Engine::wait_for_connections_to_close(int64_t deadline_ns) {
  std::unique_lock lock(connections_mutex_);
  const auto left = std::chrono::nanoseconds(deadline_ns - monotonic_ns());
  return connection_closed_.wait_for(lock, left, [&] { return counters_.connections_open == 0; });
}

Wait Engine::acquire_slot(Connection& connection, int64_t task, const Tokens& prompt,
                          size_t& slot) {
  Waiter waiter{-1, task};
  {
    const std::lock_guard lock(slots_mutex_);
    if (const auto idle = find_idle(); !idle.empty()) {
      slot = cache_.choose(idle, prompt);
      give_slot(slot, task);
      return Wait::kReady;
    }
    waiter.wake_fd = eventfd(0, EFD_CLOEXEC);
    line_.push_back(&waiter);
  }
  const Wait outcome = connection.wait_until(kNoDeadline, waiter.wake_fd);
  const Wait result = leave_line(waiter, outcome, slot);
  close(waiter.wake_fd);
  return result;
}

Wait Engine::leave_line(Waiter& waiter, Wait outcome, size_t& slot) {
  bool give_back = false;
  {
    const std::lock_guard lock(slots_mutex_);
    std::erase(line_, &waiter);
    slot = waiter.slot;
    // The slot may have come in the moment in which the client left.
    give_back = waiter.has_slot && outcome != Wait::kReady;
  }
  if (give_back) release_slot(slot);
  return outcome;
}

void Engine::release_slot(size_t slot) {
  const std::lock_guard lock(slots_mutex_);
  slots_[slot].is_processing = false;
  if (line_.empty()) return;
  Waiter* const next = line_.front();
  line_.pop_front();
  give_slot(slot, next->task);
  next->has_slot = true;
  next->slot = slot;
  make_readable(next->wake_fd);
}

std::vector<size_t> Engine::find_idle() const {
  std::vector<size_t> idle;
  for (size_t slot = 0; slot < slots_.size(); ++slot) {
    if (!slots_[slot].is_processing) idle.push_back(slot);
  }
  return idle;
}

std::vector<size_t> Engine::idle_slots() const {
  const std::lock_guard lock(slots_mutex_);
  return find_idle();
}

void Engine::give_slot(size_t slot, int64_t task) { slots_[slot] = {true, task, 0}; }

void Engine::set_decoded(size_t slot, int64_t tokens) {
  const std::lock_guard lock(slots_mutex_);
  slots_[slot].decoded = tokens;
}

std::vector<SlotState> Engine::slots() const {
  const std::lock_guard lock(slots_mutex_);
  return slots_;
}

size_t Engine::waiting_for_slot() const {
  const std::lock_guard lock(slots_mutex_);
  return line_.size();
}

}  // namespace fake_engine
