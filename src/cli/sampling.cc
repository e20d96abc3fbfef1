#include "cli/sampling.h"

#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

#include "base/nearest.h"

namespace yoke::cli {
namespace {

constexpr std::array<std::string_view, 4> kNames{"temperature", "top_p", "max_tokens", "seed"};

template <class T>
Result<void> assign(std::optional<T>& to, std::string_view name, std::string_view text, T least,
                    T most, std::string_view expected) {
  if (text == "default") {
    to.reset();
    return {};
  }
  T value{};
  const auto end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  // Written so that "nan" is refused too.
  const bool in_range = value >= least && value <= most;
  if (parsed.ec != std::errc{} || parsed.ptr != end || !in_range) {
    return fail(kInvalidArgument, fmt::format("'{}' is no {}.", text, name),
                fmt::format("It has to be {}, or \"default\".", expected));
  }
  to = value;
  return {};
}

template <class T>
void describe_one(std::string& text, std::string_view name, const std::optional<T>& value) {
  text += value ? fmt::format("{} {}\n", name, *value) : fmt::format("{} default\n", name);
}

}  // namespace

Result<void> Sampling::set(std::string_view name, std::string_view value) {
  constexpr auto kLargest = std::numeric_limits<std::int64_t>::max();
  std::string key(name);
  std::replace(key.begin(), key.end(), '-', '_');
  if (key == "temperature") {
    return assign(temperature, key, value, 0.0, 10.0, "a number from 0 (always the same) to 10");
  }
  if (key == "top_p") return assign(top_p, key, value, 0.0, 1.0, "a number from 0 to 1");
  if (key == "max_tokens") {
    return assign<std::int64_t>(max_tokens, key, value, 1, kLargest, "a whole number from 1");
  }
  if (key == "seed") {
    return assign<std::int64_t>(seed, key, value, 0, kLargest, "a whole number from 0");
  }
  const auto meant = nearest(key, kNames);
  return fail(kInvalidArgument, fmt::format("There is no setting '{}'.", name),
              meant ? fmt::format("Did you mean {}?", *meant)
                    : "There are temperature, top_p, max_tokens and seed.");
}

void Sampling::add_to(boost::json::object& request) const {
  if (temperature) request["temperature"] = *temperature;
  if (top_p) request["top_p"] = *top_p;
  if (max_tokens) request["max_tokens"] = *max_tokens;
  if (seed) request["seed"] = *seed;
}

std::string Sampling::describe() const {
  std::string text;
  describe_one(text, "temperature", temperature);
  describe_one(text, "top_p", top_p);
  describe_one(text, "max_tokens", max_tokens);
  describe_one(text, "seed", seed);
  return text;
}

}  // namespace yoke::cli
