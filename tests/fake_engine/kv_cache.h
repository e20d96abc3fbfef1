// What the slots have computed, as tokens, and the files they are saved to. The same locks, so that
// every method may be called from every thread.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fake_engine {

using Tokens = std::vector<int32_t>;

class KvCache {
 public:
  // `stamp`: of all that a saved slot depends on. With `ram` set, slots that are idle when another
  // one begins are moved to memory, as llama-server does.
  KvCache(size_t slots, uint64_t stamp, bool ram) : stamp_(stamp), ram_(ram), slots_(slots) {}

  // Of the idle slots the one that begins most like the prompt, else the first empty one, else the
  // first.
  size_t choose(const std::vector<size_t>& idle, const Tokens& prompt) const;

  // The slot begins with this prompt; how many of its tokens need not be computed.
  int64_t begin(size_t slot, const std::vector<size_t>& idle, const Tokens& prompt, bool use_cache);
  // The slot has said this.
  void extend(size_t slot, const Tokens& said);

  size_t tokens_in(size_t slot) const;
  void erase(size_t slot);

  // In llama-server's format. As there, what only the closing of the file writes may be lost
  // without a word. The number of bytes; none if writing failed before.
  std::optional<uint64_t> save(size_t slot, const std::string& path) const;

  enum class Restored { kDone, kUnreadable, kForeign };
  // kForeign: it was saved with another stamp.
  Restored restore(size_t slot, const std::string& path);

 private:
  void take_from_ram(size_t slot, const Tokens& prompt);
  void move_to_ram(size_t slot);

  const uint64_t stamp_;
  const bool ram_;
  mutable std::mutex mutex_;
  std::vector<Tokens> slots_;
  std::deque<Tokens> moved_;
};

}  // namespace fake_engine
