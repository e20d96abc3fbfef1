// What the fake model holds for likely: made up, but the same for the same model and prompt.
// Pure; callable from every thread.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace fake_engine {

inline constexpr int64_t kBeginToken = 1;

struct TopToken {
  int64_t id;
  double probability;
};

struct TopTokens {
  uint64_t seed = 0;  // Of model and prompt.
  int64_t count = 0;  // How many are asked for; 0: none.
};

// The token of a word.
int64_t token_of(std::string_view word);

// A token for each word, behind kBeginToken if that is wanted.
std::vector<int32_t> tokens_of(std::string_view text, bool add_special);

// The likeliest tokens of one position of the answer, at least one; the likeliest first.
std::vector<TopToken> top_tokens_at(const TopTokens& tokens, int64_t position);

}  // namespace fake_engine
