// Whether an engine computes what the CPU computes: the probabilities of the first tokens after a
// prompt that is longer than one batch, compared with a reference. ROCm on gfx115x has given wrong
// text silently (llama.cpp #28211). Pure; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "config/load_options.h"

namespace yoke::engines {

struct TokenOdds {
  std::int64_t token = 0;
  double probability = 0;  // 0 to 1
};

// The likeliest tokens of one position, and the one that was taken (the likeliest).
struct Position {
  std::int64_t taken = 0;
  std::vector<TokenOdds> likeliest;
};

struct FirstTokens {
  int prompt_tokens = 0;
  std::vector<Position> positions;
};

// How many tokens the prompt of the check has: more than one batch, if the context allows that.
// 0: the context is too small for a check. `options` with the decisions in them.
int check_prompt_tokens(const config::LoadOptions& options);

// The words of the prompt, as many as make at least `tokens` tokens in any tokenizer.
std::string check_text(int tokens);

// The prompt of exactly `count` tokens, out of those of check_text, of which there must be as many.
// It ends in a repetition of its beginning: to go on with that, both of its batches must be right.
std::vector<std::int64_t> check_prompt(std::span<const std::int64_t> text, int count);

struct Agreement {
  bool agrees = true;
  double distance = 0;  // 0: the same probabilities; 1: nothing in common.
  std::string why;      // One sentence with the figures.
};
Agreement compare(const FirstTokens& reference, const FirstTokens& answer);

// From an engine's answer to /completion with n_probs. kEngineUnusable if it is none.
Result<FirstTokens> parse_first_tokens(std::string_view reply, int prompt_tokens);

// For the store: a JSON text, and back.
std::string to_text(const FirstTokens& tokens);
Result<FirstTokens> first_tokens_of(std::string_view text);

}  // namespace yoke::engines
