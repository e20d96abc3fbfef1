// HeldContexts: what is known of what one engine process holds, and who restores what into which
// slot right now. Any thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "contexts/engine_slots.h"
#include "contexts/saved_contexts.h"

namespace yoke::contexts {

class HeldContexts {
 public:
  // The engine has computed or holds these tokens, in a slot or in its cache.
  void add(std::shared_ptr<const Tokens> tokens);

  // The context to restore for this prompt, if one is worth it; nobody else gets it from now on.
  // The engine will hold the prompt's tokens after that.
  std::optional<SavedContext> claim(const std::vector<SavedContext>& saved, Tokens prompt);
  // Nobody has restored it after all.
  void give_up(const std::string& file);
  // Never to be restored into this engine: it is there already.
  void settle(const std::string& file);
  // Whether there is anything to claim.
  bool knows_all(const std::vector<SavedContext>& saved) const;

  // An idle slot for so many tokens, the one that holds least; nobody else gets it before
  // release_slot(). None if all are busy.
  std::optional<Slot> claim_slot(const std::vector<Slot>& slots);
  void release_slot(int slot);

  // What the slot holds now is on the disk.
  void mark_saved(const Slot& slot);
  bool is_saved(const Slot& slot) const;
  // What was restored may have been moved to the engine's cache.
  void forget_restored();

 private:
  struct Mark {
    std::int64_t task;
    std::int64_t tokens;
  };
  std::int64_t tokens_in(const Slot& slot) const;
  std::size_t longest_held(const Tokens& prompt) const;

  mutable std::mutex mutex_;
  std::deque<std::shared_ptr<const Tokens>> held_;  // The newest last.
  std::set<std::string> settled_;                   // Files.
  std::set<int> claimed_slots_;
  std::map<int, Mark> marks_;  // By slot.
};

}  // namespace yoke::contexts
