#include "contexts/held_contexts.h"

#include <algorithm>
#include <utility>

#include "contexts/slot_file.h"

namespace yoke::contexts {
namespace {

constexpr std::size_t kMaxHeld = 64;
// llama-server does not look at a slot that has less in common with the prompt, and does not bring
// back what it would throw away for the most part.
constexpr std::size_t kPartOfPrompt = 8;
constexpr std::size_t kPartOfContext = 4;

bool is_worth_it(std::size_t common, const SavedContext& context, const Tokens& prompt) {
  return common >= kWorthSaving && common >= prompt.size() / kPartOfPrompt &&
         common >= context.tokens->size() / kPartOfContext;
}

}  // namespace

void HeldContexts::add(std::shared_ptr<const Tokens> tokens) {
  const std::lock_guard lock(mutex_);
  held_.push_back(std::move(tokens));
  if (held_.size() > kMaxHeld) held_.pop_front();
}

std::size_t HeldContexts::longest_held(const Tokens& prompt) const {
  std::size_t longest = 0;
  for (const auto& tokens : held_) longest = std::max(longest, common_beginning(*tokens, prompt));
  return longest;
}

std::optional<SavedContext> HeldContexts::claim(const std::vector<SavedContext>& saved,
                                                Tokens prompt) {
  const std::lock_guard lock(mutex_);
  const SavedContext* best = nullptr;
  std::size_t longest = longest_held(prompt);
  for (const SavedContext& context : saved) {
    const std::size_t common = common_beginning(*context.tokens, prompt);
    if (common <= longest || settled_.contains(context.file)) continue;
    if (!is_worth_it(common, context, prompt)) continue;
    longest = common;
    best = &context;
  }
  if (best != nullptr) settled_.insert(best->file);
  held_.push_back(std::make_shared<const Tokens>(std::move(prompt)));
  if (held_.size() > kMaxHeld) held_.pop_front();
  return best == nullptr ? std::nullopt : std::optional(*best);
}

void HeldContexts::give_up(const std::string& file) {
  const std::lock_guard lock(mutex_);
  settled_.erase(file);
}

bool HeldContexts::knows_all(const std::vector<SavedContext>& saved) const {
  const std::lock_guard lock(mutex_);
  return std::ranges::all_of(
      saved, [&](const SavedContext& context) { return settled_.contains(context.file); });
}

void HeldContexts::settle(const std::string& file) {
  const std::lock_guard lock(mutex_);
  settled_.insert(file);
}

// Of a slot that was filled by a restore alone the engine does not say what it holds.
std::int64_t HeldContexts::tokens_in(const Slot& slot) const {
  const auto mark = marks_.find(slot.id);
  const bool restored = slot.task < 0 && mark != marks_.end();
  return restored ? mark->second.tokens : slot.tokens;
}

std::optional<Slot> HeldContexts::claim_slot(const std::vector<Slot>& slots) {
  const std::lock_guard lock(mutex_);
  std::optional<Slot> best;
  for (Slot slot : slots) {
    if (slot.busy || claimed_slots_.contains(slot.id)) continue;
    slot.tokens = tokens_in(slot);
    if (!best || slot.tokens < best->tokens) best = slot;
  }
  if (best) claimed_slots_.insert(best->id);
  return best;
}

void HeldContexts::release_slot(int slot) {
  const std::lock_guard lock(mutex_);
  claimed_slots_.erase(slot);
}

void HeldContexts::mark_saved(const Slot& slot) {
  const std::lock_guard lock(mutex_);
  marks_[slot.id] = {slot.task, slot.tokens};
}

bool HeldContexts::is_saved(const Slot& slot) const {
  const std::lock_guard lock(mutex_);
  const auto mark = marks_.find(slot.id);
  return mark != marks_.end() && mark->second.task == slot.task &&
         mark->second.tokens == slot.tokens;
}

void HeldContexts::forget_restored() {
  const std::lock_guard lock(mutex_);
  std::erase_if(marks_, [](const auto& mark) { return mark.second.task < 0; });
}

}  // namespace yoke::contexts
