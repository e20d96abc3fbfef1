#include "fake_engine/kv_cache.h"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace fake_engine {
namespace {

constexpr uint32_t kMagic = 0x67677371;
constexpr uint32_t kVersion = 3;
constexpr size_t kPackedHead = 3;  // The mark, its version, the number of tokens.
constexpr size_t kStateBytesPerToken = 64;
constexpr size_t kMaxFileBytes = 64u << 20;
// llama-server looks only at slots that share more than a tenth of the prompt.
constexpr size_t kLeastSimilar = 10;

size_t common(const Tokens& a, const Tokens& b) {
  return static_cast<size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

void append_u32(std::string& out, uint32_t value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::string file_text(const Tokens& tokens, uint64_t stamp) {
  const auto count = static_cast<uint32_t>(tokens.size());
  std::string text;
  append_u32(text, kMagic);
  append_u32(text, kVersion);
  append_u32(text, count + kPackedHead + 1);
  append_u32(text, static_cast<uint32_t>(-1));
  append_u32(text, 1);
  append_u32(text, count);
  for (const int32_t token : tokens) append_u32(text, static_cast<uint32_t>(token));
  append_u32(text, 0);  // No images.
  text.append(reinterpret_cast<const char*>(&stamp), sizeof stamp);
  text.append(tokens.size() * kStateBytesPerToken, 'k');
  return text;
}

std::optional<std::string> read_file(const std::string& path) {
  FILE* const file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return std::nullopt;
  std::string text;
  char piece[1 << 16];
  for (size_t got;
       text.size() < kMaxFileBytes && (got = std::fread(piece, 1, sizeof piece, file));) {
    text.append(piece, got);
  }
  std::fclose(file);
  return text;
}

uint32_t u32_at(const std::string& text, size_t at) {
  uint32_t value = 0;
  if (at + sizeof value <= text.size())
    std::copy_n(text.data() + at, sizeof value, reinterpret_cast<char*>(&value));
  return value;
}

}  // namespace

size_t KvCache::choose(const std::vector<size_t>& idle, const Tokens& prompt) const {
  const std::lock_guard lock(mutex_);
  const auto empty = std::ranges::find_if(idle, [&](size_t slot) { return slots_[slot].empty(); });
  size_t best = empty == idle.end() ? idle.front() : *empty;
  size_t most = prompt.size() / kLeastSimilar;
  for (const size_t slot : idle) {
    const size_t shared = common(slots_[slot], prompt);
    if (shared <= most) continue;
    most = shared;
    best = slot;
  }
  return best;
}

void KvCache::move_to_ram(size_t slot) {
  if (!slots_[slot].empty()) moved_.push_back(std::exchange(slots_[slot], {}));
}

void KvCache::take_from_ram(size_t slot, const Tokens& prompt) {
  size_t most = common(slots_[slot], prompt);
  auto best = moved_.end();
  for (auto tokens = moved_.begin(); tokens != moved_.end(); ++tokens) {
    if (common(*tokens, prompt) <= most) continue;
    most = common(*tokens, prompt);
    best = tokens;
  }
  if (best == moved_.end()) return;
  Tokens found = std::move(*best);
  moved_.erase(best);
  move_to_ram(slot);
  slots_[slot] = std::move(found);
}

int64_t KvCache::begin(size_t slot, const std::vector<size_t>& idle, const Tokens& prompt,
                       bool use_cache) {
  const std::lock_guard lock(mutex_);
  if (ram_) {
    for (const size_t other : idle) {
      if (other != slot) move_to_ram(other);
    }
    take_from_ram(slot, prompt);
    if (common(slots_[slot], prompt) < slots_[slot].size() / 2) move_to_ram(slot);
  }
  // The last token is always computed: its result is what the answer begins with.
  const size_t most = prompt.empty() ? 0 : prompt.size() - 1;
  const size_t cached = use_cache ? std::min(common(slots_[slot], prompt), most) : 0;
  slots_[slot] = prompt;
  return static_cast<int64_t>(cached);
}

void KvCache::extend(size_t slot, const Tokens& said) {
  const std::lock_guard lock(mutex_);
  slots_[slot].insert(slots_[slot].end(), said.begin(), said.end());
}

size_t KvCache::tokens_in(size_t slot) const {
  const std::lock_guard lock(mutex_);
  return slots_[slot].size();
}

void KvCache::erase(size_t slot) {
  const std::lock_guard lock(mutex_);
  slots_[slot].clear();
}

std::optional<uint64_t> KvCache::save(size_t slot, const std::string& path) const {
  std::string text;
  {
    const std::lock_guard lock(mutex_);
    text = file_text(slots_[slot], stamp_);
  }
  FILE* const file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) return std::nullopt;
  constexpr size_t kPiece = 1000;
  bool written = true;
  for (size_t at = 0; written && at < text.size(); at += kPiece) {
    const size_t size = std::min(kPiece, text.size() - at);
    written = std::fwrite(text.data() + at, 1, size, file) == size;
  }
  std::fclose(file);
  return written ? std::optional<uint64_t>(text.size()) : std::nullopt;
}

KvCache::Restored KvCache::restore(size_t slot, const std::string& path) {
  const auto text = read_file(path);
  const size_t first = (3 + kPackedHead) * sizeof(uint32_t);
  if (!text || text->size() < first) return Restored::kUnreadable;
  const size_t count = u32_at(*text, first - sizeof(uint32_t));
  if (count > text->size() / sizeof(uint32_t)) return Restored::kUnreadable;
  Tokens tokens(count);
  for (size_t at = 0; at < count; ++at) {
    tokens[at] = static_cast<int32_t>(u32_at(*text, first + at * sizeof(uint32_t)));
  }
  const std::string mine = file_text(tokens, stamp_);
  if (mine.size() != text->size()) return Restored::kUnreadable;
  if (mine != *text) return Restored::kForeign;
  const std::lock_guard lock(mutex_);
  slots_[slot] = std::move(tokens);
  return Restored::kDone;
}

}  // namespace fake_engine
