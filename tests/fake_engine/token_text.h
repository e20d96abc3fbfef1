// The text of a reply: token i of seed s is always the same, so that a client can tell whether a
// token was lost, repeated or moved. Pure; callable from every thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fake_engine {

// FNV-1a, 64 bits; continue one by passing its value as `hash`.
inline constexpr uint64_t kFnvStart = 0xcbf29ce484222325ULL;
uint64_t fnv1a64(std::string_view text, uint64_t hash = kFnvStart);

// 16 lower-case hex digits.
std::string hex64(uint64_t value);

// `w<seed>-<index>-<8 hex digits> `, filled with dots before the blank up to `bytes` characters.
// The digits are the low half of fnv1a64("<seed>-<index>").
std::string token_text(uint64_t seed, int64_t index, size_t bytes);

// Where a reply has to go on that already holds `text`.
struct ResumePoint {
  uint64_t seed;
  int64_t next_index;     // The first token that is not complete in the text.
  size_t bytes_of_token;  // How much of that token is there already.
  std::string_view text;  // The part of the given text that is the reply's.
};

// Reads the seed out of `text`. None unless all of the text is what that seed would have said.
std::optional<ResumePoint> find_resume_point(std::string_view text, size_t token_bytes);

// The same for a prompt that ends in a reply's beginning.
std::optional<ResumePoint> find_resume_point_at_end(std::string_view prompt, size_t token_bytes);

}  // namespace fake_engine
