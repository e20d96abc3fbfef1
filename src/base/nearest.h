// "Did you mean": the known name closest to one that was mistyped. Pure; any thread.
#pragma once

#include <optional>
#include <span>
#include <string_view>

namespace yoke {

// Damerau-Levenshtein distance with adjacent transpositions (optimal string alignment).
std::size_t edit_distance(std::string_view a, std::string_view b);

// The candidate with the least distance to `name`, if that is at most a third of its length
// (at least 1, at most 3); the first of several.
std::optional<std::string_view> nearest(std::string_view name,
                                        std::span<const std::string_view> candidates);

}  // namespace yoke
