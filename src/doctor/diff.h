// A unified diff of two small texts, for people. Pure; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace yoke::doctor {

// The whole file as one hunk; nothing stands for a file that does not exist. Empty if both are the
// same.
std::string unified_diff(std::string_view path, const std::optional<std::string>& before,
                         const std::optional<std::string>& after);

}  // namespace yoke::doctor
