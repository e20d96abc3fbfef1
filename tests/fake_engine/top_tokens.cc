#include "fake_engine/top_tokens.h"

#include <algorithm>
#include <string>

#include "fake_engine/token_text.h"

namespace fake_engine {
namespace {

constexpr uint64_t kVocabulary = 50'000;
constexpr int64_t kMostTokens = 100;

}  // namespace

int64_t token_of(std::string_view word) {
  return kBeginToken + 1 + static_cast<int64_t>(fnv1a64(word) % kVocabulary);
}

std::vector<int32_t> tokens_of(std::string_view text, bool add_special) {
  std::vector<int32_t> tokens;
  if (add_special) tokens.push_back(static_cast<int32_t>(kBeginToken));
  for (;;) {
    const size_t begin = text.find_first_not_of(" \t\r\n");
    if (begin == text.npos) return tokens;
    text.remove_prefix(begin);
    const std::string_view word = text.substr(0, text.find_first_of(" \t\r\n"));
    text.remove_prefix(word.size());
    tokens.push_back(static_cast<int32_t>(token_of(word)));
  }
}

std::vector<TopToken> top_tokens_at(const TopTokens& tokens, int64_t position) {
  std::vector<TopToken> top;
  double probability = 0.6;
  for (int64_t rank = 0; rank < std::clamp<int64_t>(tokens.count, 1, kMostTokens); ++rank) {
    const std::string name = std::to_string(position) + '-' + std::to_string(rank);
    top.push_back({static_cast<int64_t>(fnv1a64(name, tokens.seed) % kVocabulary), probability});
    probability *= 0.4;
  }
  return top;
}

}  // namespace fake_engine
