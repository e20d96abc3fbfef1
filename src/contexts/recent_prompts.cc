#include "contexts/recent_prompts.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace yoke::contexts {
namespace {

constexpr std::size_t kMaxPrompts = 16;
constexpr std::size_t kMaxBytes = 16u << 20;
constexpr std::size_t kMaxBody = 2u << 20;  // Beyond are images.
// No shorter body has kWorthSaving tokens: few have under two characters.
constexpr std::size_t kMinBody = 512;
// What may be lost of a conversation: about kWorthSaving tokens.
constexpr std::size_t kSlack = 1024;

// What is asked anew differs at the end of the messages, and other fields may follow those.
bool goes_on_with(const std::string& older, const std::string& newer) {
  const auto head = std::ranges::mismatch(older, newer).in1;
  const auto rest = static_cast<std::size_t>(std::distance(head, older.end()));
  const std::size_t tail_limit = std::min(rest, newer.size() - (older.size() - rest));
  std::size_t tail = 0;
  while (tail < tail_limit && older[older.size() - 1 - tail] == newer[newer.size() - 1 - tail]) {
    ++tail;
  }
  return rest - tail < kSlack && rest - tail < older.size() / 2;
}

}  // namespace

bool RecentPrompts::add(std::string_view target, const std::string& body) {
  if (body.size() < kMinBody || body.size() > kMaxBody) return false;
  const auto older = std::ranges::find_if(places_, [&](const Place& place) {
    return place.prompt->target == target && goes_on_with(place.prompt->body, body);
  });
  const bool goes_on = older != places_.end();
  if (goes_on) {
    bytes_ -= older->prompt->body.size();
    places_.erase(older);
  }
  bytes_ += body.size();
  places_.push_back({std::make_shared<const RecentPrompt>(std::string(target), body)});
  while (places_.size() > kMaxPrompts || bytes_ > kMaxBytes) {
    bytes_ -= places_.front().prompt->body.size();
    places_.pop_front();
  }
  return goes_on;
}

std::vector<std::shared_ptr<const RecentPrompt>> RecentPrompts::take() {
  std::vector<std::shared_ptr<const RecentPrompt>> taken;
  for (auto place = places_.rbegin(); place != places_.rend(); ++place) {
    if (!std::exchange(place->taken, true)) taken.push_back(place->prompt);
  }
  return taken;
}

}  // namespace yoke::contexts
