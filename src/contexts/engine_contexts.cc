#include "contexts/engine_contexts.h"

#include <algorithm>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/units.h"
#include "contexts/engine_slots.h"
#include "contexts/held_contexts.h"
#include "contexts/recent_prompts.h"
#include "contexts/slot_file.h"
#include "io/sleep.h"
#include "io/wait_for_one.h"

namespace yoke::contexts {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kRestoreLimit = 10s;
constexpr std::uint64_t kSlowDisk = 64u << 20;  // Bytes per second.
constexpr std::chrono::milliseconds kLookAgain = 500ms;

std::chrono::milliseconds since(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start);
}

std::chrono::milliseconds restore_limit(std::uint64_t bytes) {
  return kRestoreLimit + std::chrono::milliseconds(bytes * 1000 / kSlowDisk);
}

// Removes the file that the engine was writing, unless it was kept.
class PartFile {
 public:
  PartFile(SavedContexts& saved, std::string name) : saved_(&saved), name_(std::move(name)) {}
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;
  ~PartFile() {
    if (!kept_) saved_->discard(name_);
  }
  const std::string& name() const { return name_; }
  // keep() has taken it, or taken it out.
  void release() { kept_ = true; }

 private:
  SavedContexts* saved_;
  std::string name_;
  bool kept_ = false;
};

// A context and a slot that are one request's while it restores.
class Claim {
 public:
  Claim(HeldContexts& held, SavedContext context) : held_(&held), context_(std::move(context)) {}
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  ~Claim() {
    release_slot();
    if (!settled_) held_->give_up(context_.file);
  }
  const SavedContext& context() const { return context_; }
  const std::optional<Slot>& slot() const { return slot_; }
  bool take_slot(const std::vector<Slot>& slots) {
    release_slot();
    slot_ = held_->claim_slot(slots);
    return slot_.has_value();
  }
  // The context is not looked at again in this engine's life.
  void settle() { settled_ = true; }

 private:
  void release_slot() {
    if (slot_) held_->release_slot(slot_->id);
    slot_.reset();
  }
  HeldContexts* held_;
  SavedContext context_;
  std::optional<Slot> slot_;
  bool settled_ = false;
};

bool any_busy(const std::vector<Slot>& slots) { return std::ranges::any_of(slots, &Slot::busy); }

// Whether the context fits beside what the other slots hold, should they share the memory.
bool has_room(const std::vector<Slot>& slots, const Slot& into, const SavedContext& context) {
  auto needed = static_cast<std::int64_t>(context.tokens->size());
  for (const Slot& slot : slots) {
    if (slot.id != into.id) needed += slot.tokens;
  }
  return needed <= into.n_ctx;
}

// Ends when somebody else's request has taken the slot.
io::Task<void> until_taken(EngineAddress engine, int id) {
  for (;;) {
    auto pause = io::sleep_for(kLookAgain);
    co_await std::move(pause);
    auto asking = get_slots(engine);
    const auto slots = co_await std::move(asking);
    if (!slots) continue;
    const bool taken =
        std::ranges::any_of(*slots, [&](const Slot& slot) { return slot.id == id && slot.busy; });
    if (taken) co_return;
  }
}

}  // namespace

struct EngineContexts::Impl {
  SavedContexts& saved;
  const std::string model;
  const ContextKey key;
  const EngineAddress engine;
  HeldContexts held{};
  std::mutex recent_mutex{};
  RecentPrompts recent{};

  io::Task<Result<void>> save_all(std::chrono::milliseconds limit);
  io::Task<Result<void>> save_recent(std::chrono::milliseconds limit);
  io::Task<Result<void>> save_one(Slot slot, std::chrono::milliseconds limit);
  Result<void> make_room(std::int64_t tokens);
  bool is_covered(const Tokens& prompt) const;

  io::Task<void> restore(std::string target, std::string body);
  io::Task<void> put_back(SavedContext context);
  io::Task<bool> find_slot(Claim& claim);
  void restored(Claim& claim, Clock::time_point start);
  void not_restored(Claim& claim, const Error& error, bool had_room);
};

// What a saved context has per token, the next one will have too.
Result<void> EngineContexts::Impl::make_room(std::int64_t tokens) {
  std::uint64_t bytes = 0;
  const auto known = saved.of(key);
  if (!known.empty() && !known.front().tokens->empty()) {
    bytes = known.front().bytes / known.front().tokens->size() * static_cast<std::uint64_t>(tokens);
  }
  return saved.make_room(bytes);
}

io::Task<Result<void>> EngineContexts::Impl::save_one(Slot slot, std::chrono::milliseconds limit) {
  const auto start = Clock::now();
  YOKE_CO_CHECK(make_room(slot.tokens));
  PartFile part(saved, saved.begin(key));
  auto saving = save_slot(engine, slot.id, part.name(), limit);
  YOKE_CO_TRY(const SlotSaved written, co_await std::move(saving));
  part.release();
  YOKE_CO_TRY(const SavedContext context, saved.keep(key, part.name(), written.bytes, model));
  held.mark_saved(slot);
  held.settle(context.file);
  held.add(context.tokens);
  log::info("Model {}: saved a context of {} tokens, {}, in {}.", model, written.tokens,
            format_memory(context.bytes), format_duration(since(start)));
  co_return Result<void>{};
}

bool EngineContexts::Impl::is_covered(const Tokens& prompt) const {
  return std::ranges::any_of(saved.of(key), [&](const SavedContext& context) {
    return prompt.size() - common_beginning(*context.tokens, prompt) < kWorthSaving;
  });
}

// What the engine has moved out of its slots.
io::Task<Result<void>> EngineContexts::Impl::save_recent(std::chrono::milliseconds limit) {
  std::vector<std::shared_ptr<const RecentPrompt>> prompts;
  {
    const std::lock_guard lock(recent_mutex);
    prompts = recent.take();
  }
  for (const auto& prompt : prompts) {
    auto tokenizing = prompt_tokens(engine, prompt->target, prompt->body);
    auto tokens = co_await std::move(tokenizing);
    if (!tokens || tokens->size() < kWorthSaving || is_covered(*tokens)) continue;
    auto asking = get_slots(engine);
    YOKE_CO_TRY(const std::vector<Slot> before, co_await std::move(asking));
    if (any_busy(before)) co_return Result<void>{};
    auto recalling = recall(engine, *std::move(tokens));
    YOKE_CO_TRY(const std::optional<int> id, co_await std::move(recalling));
    if (!id) co_return Result<void>{};  // What was asked before that is not there either.
    auto looking = get_slots(engine);
    YOKE_CO_TRY(const std::vector<Slot> slots, co_await std::move(looking));
    const auto slot = std::ranges::find(slots, *id, &Slot::id);
    if (slot == slots.end()) continue;
    auto saving = save_one(*slot, limit);
    YOKE_CO_CHECK(co_await std::move(saving));
  }
  co_return Result<void>{};
}

io::Task<Result<void>> EngineContexts::Impl::save_all(std::chrono::milliseconds limit) {
  auto asking = get_slots(engine);
  YOKE_CO_TRY(const std::vector<Slot> slots, co_await std::move(asking));
  for (const Slot& slot : slots) {
    const bool worth_it = slot.tokens >= static_cast<std::int64_t>(kWorthSaving);
    if (slot.busy || !worth_it || held.is_saved(slot)) continue;
    auto saving = save_one(slot, limit);
    YOKE_CO_CHECK(co_await std::move(saving));
  }
  auto saving = save_recent(limit);
  co_return co_await std::move(saving);
}

io::Task<bool> EngineContexts::Impl::find_slot(Claim& claim) {
  auto asking = get_slots(engine);
  auto slots = co_await std::move(asking);
  if (!slots || !claim.take_slot(*slots)) co_return false;
  const bool is_lost = claim.slot()->tokens >= static_cast<std::int64_t>(kWorthSaving);
  if (is_lost || !has_room(*slots, *claim.slot(), claim.context())) {
    auto moving = move_idle_slots(engine);
    const auto moved = co_await std::move(moving);
    if (!moved) co_return false;
    held.forget_restored();
    auto looking = get_slots(engine);
    slots = co_await std::move(looking);
    if (!slots || !claim.take_slot(*slots)) co_return false;
  }
  co_return true;
}

void EngineContexts::Impl::restored(Claim& claim, Clock::time_point start) {
  claim.settle();
  held.add(claim.context().tokens);
  Slot slot = *claim.slot();
  slot.tokens = static_cast<std::int64_t>(claim.context().tokens->size());
  held.mark_saved(slot);
  log::info("Model {}: restored a context of {} tokens, {}, in {}.", model, slot.tokens,
            format_memory(claim.context().bytes), format_duration(since(start)));
}

void EngineContexts::Impl::not_restored(Claim& claim, const Error& error, bool had_room) {
  claim.settle();
  if (!had_room && error.code == http::kBadResponse) {
    log::debug("Model {}: there is no room for a saved context now.", model);
    return;
  }
  // An engine that is slow or gone says nothing about the file; one that dies of it does.
  const bool bad_file = error.code == http::kBadResponse || error.code == http::kPeerClosed;
  log::warning("Model {}: a saved context could not be restored{}. {}", model,
               bad_file ? " and is removed" : "", error.text());
  if (bad_file) saved.discard(claim.context().file);
}

io::Task<void> EngineContexts::Impl::put_back(SavedContext context) {
  const auto start = Clock::now();
  Claim claim(held, std::move(context));
  auto finding = find_slot(claim);
  if (!co_await std::move(finding)) co_return;
  if (claim.slot()->n_ctx < static_cast<std::int64_t>(claim.context().tokens->size())) {
    claim.settle();
    co_return;
  }
  const auto in_use = saved.use(claim.context().file);
  if (!in_use) {
    log::warning("Model {}: the saved context {} is removed. {}", model, claim.context().file,
                 in_use.error().message);
    saved.discard(claim.context().file);
    co_return;
  }
  auto asking = get_slots(engine);
  const auto slots = co_await std::move(asking);
  const bool had_room = slots && has_room(*slots, *claim.slot(), claim.context());
  auto restoring = restore_slot(engine, claim.slot()->id, claim.context().file,
                                restore_limit(claim.context().bytes));
  auto watching = until_taken(engine, claim.slot()->id);
  const auto outcome = co_await io::wait_for_one(std::move(restoring), std::move(watching));
  if (outcome.index() == 1) co_return;
  if (const Result<void>& done = std::get<0>(outcome)) {
    restored(claim, start);
  } else {
    not_restored(claim, done.error(), had_room);
  }
}

io::Task<void> EngineContexts::Impl::restore(std::string target, std::string body) {
  auto tokenizing = prompt_tokens(engine, std::move(target), std::move(body));
  auto prompt = co_await std::move(tokenizing);
  if (!prompt) {
    log::debug("Model {}: the tokens of a prompt are not known. {}", model, prompt.error().text());
    co_return;
  }
  auto context = held.claim(saved.of(key), *std::move(prompt));
  if (!context) co_return;
  auto putting = put_back(*std::move(context));
  co_await std::move(putting);
}

EngineContexts::EngineContexts(SavedContexts& saved, std::string model, ContextKey key,
                               http::Endpoint engine, std::string api_key)
    : impl_(new Impl{saved, std::move(model), std::move(key),
                     EngineAddress{std::move(engine), std::move(api_key)}}) {
  const std::size_t others = saved.others_of(impl_->model, impl_->key);
  if (others > 0 && saved.of(impl_->key).empty()) {
    log::info("Model {}: {} saved context{} of another model file, engine or settings {} not used.",
              impl_->model, others, others == 1 ? "" : "s", others == 1 ? "is" : "are");
  }
}

EngineContexts::~EngineContexts() = default;

io::Task<void> EngineContexts::save(std::chrono::milliseconds limit) {
  auto saving = impl_->save_all(limit);
  auto clock = io::sleep_for(limit);
  const auto outcome = co_await io::wait_for_one(std::move(saving), std::move(clock));
  if (outcome.index() == 1) {
    log::warning("Model {}: its contexts were not all saved within {}.", impl_->model,
                 format_duration(limit));
  } else if (const Result<void>& saved = std::get<0>(outcome); !saved) {
    log::warning("Model {}: a context could not be saved. {}", impl_->model, saved.error().text());
  }
}

io::Task<void> EngineContexts::restore_for(std::string target, const std::string& body) {
  {
    // What goes on with a prompt that the engine was asked before is there already.
    const std::lock_guard lock(impl_->recent_mutex);
    if (impl_->recent.add(target, body)) co_return;
  }
  const auto saved = impl_->saved.of(impl_->key);
  if (body.size() < kWorthSaving || impl_->held.knows_all(saved)) co_return;
  const auto largest = std::ranges::max(saved, {}, &SavedContext::bytes);
  auto restoring = impl_->restore(std::move(target), body);
  auto clock = io::sleep_for(restore_limit(largest.bytes));
  const auto outcome = co_await io::wait_for_one(std::move(restoring), std::move(clock));
  if (outcome.index() == 1) {
    log::warning("Model {}: restoring a context took too long.", impl_->model);
  }
}

}  // namespace yoke::contexts
