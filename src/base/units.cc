#include "base/units.h"

#include <array>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

namespace yoke {
namespace {

struct Unit {
  std::string_view name;
  double factor;
};

constexpr std::array<Unit, 10> kByteUnits{{{"", 1},
                                           {"B", 1},
                                           {"KB", 1e3},
                                           {"MB", 1e6},
                                           {"GB", 1e9},
                                           {"TB", 1e12},
                                           {"KiB", 1024.0},
                                           {"MiB", 1024.0 * 1024},
                                           {"GiB", 1024.0 * 1024 * 1024},
                                           {"TiB", 1024.0 * 1024 * 1024 * 1024}}};

constexpr std::array<Unit, 6> kTimeUnits{
    {{"", 1e3}, {"ms", 1}, {"s", 1e3}, {"m", 60e3}, {"h", 3600e3}, {"d", 86400e3}}};

// The number at the front of `text` times the unit that is its rest; negative if it is neither.
template <std::size_t N>
double parse_with_unit(std::string_view text, const std::array<Unit, N>& units) {
  double number = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc() || !std::isfinite(number) || number < 0) return -1;
  std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  for (const Unit& known : units) {
    if (known.name == unit) return number * known.factor;
  }
  return -1;
}

struct Scaled {
  double value;
  std::size_t unit;  // How often it was divided by the base.
};

Scaled scaled(std::uint64_t bytes, double base) {
  Scaled result{static_cast<double>(bytes), 0};
  // 999.95 would be printed as 1000.0: go up one unit there already.
  while (result.value >= base - 0.05 && result.unit < 4) {
    result.value /= base;
    ++result.unit;
  }
  return result;
}

}  // namespace

std::string format_bytes(std::uint64_t bytes) {
  const auto [value, unit] = scaled(bytes, 1000);
  static constexpr std::array<std::string_view, 5> kNames{"B", "KB", "MB", "GB", "TB"};
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kNames[unit]);
}

std::string format_memory(std::uint64_t bytes) {
  const auto [value, unit] = scaled(bytes, 1024);
  static constexpr std::array<std::string_view, 5> kNames{"B", "KiB", "MiB", "GiB", "TiB"};
  const bool whole = std::fmod(value, 1.0) == 0;  // "120 GiB", as memory is set and sold.
  return whole ? fmt::format("{:.0f} {}", value, kNames[unit])
               : fmt::format("{:.1f} {}", value, kNames[unit]);
}

Result<std::uint64_t> parse_bytes(std::string_view text) {
  const double bytes = parse_with_unit(text, kByteUnits);
  if (bytes < 0 || bytes > 1e18) {
    return fail(kInvalidArgument, fmt::format("'{}' is no size.", text),
                "Write a number and a unit, such as 512MB, 64MiB or 120GiB.");
  }
  return static_cast<std::uint64_t>(bytes);
}

std::string format_count(std::uint64_t count) {
  const auto value = static_cast<double>(count);
  if (count >= 1'000'000'000'000) return fmt::format("{:.2f} T", value / 1e12);
  if (count >= 1'000'000'000) return fmt::format("{:.2f} B", value / 1e9);
  if (count >= 1'000'000) return fmt::format("{:.1f} M", value / 1e6);
  return fmt::format("{}", count);
}

std::string format_duration(std::chrono::milliseconds duration) {
  const long long ms = duration.count();
  if (ms < 1000) return fmt::format("{} ms", ms);
  if (ms < 60'000) return fmt::format("{:.1f} s", static_cast<double>(ms) / 1000);
  const long long seconds = ms / 1000;
  if (seconds < 3600) return fmt::format("{} min {} s", seconds / 60, seconds % 60);
  if (seconds < 86400) return fmt::format("{} h {} min", seconds / 3600, seconds / 60 % 60);
  return fmt::format("{} d {} h", seconds / 86400, seconds / 3600 % 24);
}

Result<std::chrono::milliseconds> parse_duration(std::string_view text) {
  const double ms = parse_with_unit(text, kTimeUnits);
  if (ms < 0 || ms > 1e15) {
    return fail(kInvalidArgument, fmt::format("'{}' is no duration.", text),
                "Write a number and a unit, such as 250ms, 90s, 5m or 1h.");
  }
  return std::chrono::milliseconds(static_cast<long long>(ms));
}

}  // namespace yoke
