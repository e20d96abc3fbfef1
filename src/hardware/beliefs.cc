#include "hardware/beliefs.h"

#include <algorithm>
#include <set>

namespace yoke::hardware::beliefs {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool is_word_character(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

// Words that some detectors put into a name and others leave out.
constexpr std::array<std::string_view, 15> kEmptyWords{
    "advanced", "amd",   "ati",    "corp",  "corporation", "devices", "gpu", "graphics",
    "inc",      "intel", "laptop", "micro", "nvidia",      "r",       "tm"};

std::set<std::string> words(std::string_view name) {
  std::set<std::string> found;
  std::string word;
  const auto end_word = [&] {
    const bool empty = word.empty() ||
                       std::find(kEmptyWords.begin(), kEmptyWords.end(), word) != kEmptyWords.end();
    if (!empty) found.insert(word);
    word.clear();
  };
  const std::string plain = plain_name(name);
  for (const char c : plain) {
    if (is_word_character(lower(c))) {
      word += lower(c);
    } else {
      end_word();
    }
  }
  end_word();
  return found;
}

}  // namespace

bool same_name(std::string_view a, std::string_view b) {
  const std::set<std::string> of_a = words(a);
  const std::set<std::string> of_b = words(b);
  return std::includes(of_a.begin(), of_a.end(), of_b.begin(), of_b.end()) ||
         std::includes(of_b.begin(), of_b.end(), of_a.begin(), of_a.end());
}

bool is_generic_name(std::string_view name) {
  std::set<std::string> left = words(name);
  left.erase("radeon");
  return left.empty();
}

bool same_size(std::uint64_t a, std::uint64_t b) {
  return (a > b ? a - b : b - a) <= std::max(a, b) / 100;
}

std::string plain_gfx(std::string_view gfx) {
  std::string plain(gfx.substr(0, gfx.find(':')));
  std::transform(plain.begin(), plain.end(), plain.begin(), lower);
  return plain;
}

std::string plain_name(std::string_view name) {
  for (const std::string_view driver : {" (RADV ", " (radv ", " (AMD ", " (NVK "}) {
    const std::size_t at = name.rfind(driver);
    if (at != std::string_view::npos && at > 0 && name.ends_with(')'))
      return std::string(name.substr(0, at));
  }
  return std::string(name);
}

}  // namespace yoke::hardware::beliefs
