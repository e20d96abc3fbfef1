#include "fake_engine/token_text.h"

#include <charconv>
#include <cstdio>

namespace fake_engine {
namespace {

// A prompt with many words that begin with 'w' must not cost quadratic time.
constexpr int kMaxResumeCandidates = 1000;

std::optional<uint64_t> read_seed(std::string_view text) {
  if (text.size() < 2 || text[0] != 'w') return std::nullopt;
  uint64_t seed = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data() + 1, end, seed);
  if (error != std::errc() || std::string_view(rest, end).substr(0, 3) != "-0-") {
    return std::nullopt;
  }
  return seed;
}

}  // namespace

uint64_t fnv1a64(std::string_view text, uint64_t hash) {
  for (const char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3ULL;
  }
  return hash;
}

std::string hex64(uint64_t value) {
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(value));
  return digits;
}

std::string token_text(uint64_t seed, int64_t index, size_t bytes) {
  const std::string name = std::to_string(seed) + '-' + std::to_string(index);
  std::string text = 'w' + name + '-' + hex64(fnv1a64(name)).substr(8);
  if (text.size() + 1 < bytes) text.append(bytes - text.size() - 1, '.');
  text += ' ';
  return text;
}

std::optional<ResumePoint> find_resume_point(std::string_view text, size_t token_bytes) {
  const std::optional<uint64_t> seed = read_seed(text);
  if (!seed) return std::nullopt;
  const std::string_view whole = text;
  for (int64_t index = 0;; ++index) {
    const std::string token = token_text(*seed, index, token_bytes);
    if (text.size() < token.size()) {
      if (!std::string_view(token).starts_with(text)) return std::nullopt;
      return ResumePoint{*seed, index, text.size(), whole};
    }
    if (!text.starts_with(token)) return std::nullopt;
    text.remove_prefix(token.size());
  }
}

std::optional<ResumePoint> find_resume_point_at_end(std::string_view prompt, size_t token_bytes) {
  size_t at = 0;
  for (int tried = 0; tried < kMaxResumeCandidates; ++tried, ++at) {
    at = prompt.find('w', at);
    if (at == std::string_view::npos) return std::nullopt;
    if (const auto point = find_resume_point(prompt.substr(at), token_bytes)) return point;
  }
  return std::nullopt;
}

}  // namespace fake_engine
