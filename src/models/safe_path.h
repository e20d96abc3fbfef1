// Paths that a server names, as files below a directory. Pure; any thread.
#pragma once

#include <filesystem>
#include <string_view>

#include "base/result.h"

namespace yoke::models {

inline constexpr ErrorCode kUnsafePath{"unsafe_path"};

// `below` with the parts of `path`, which has to stay below it: no empty part, "." or "..", nothing
// absolute, no control characters, no part that is longer than file systems take. kUnsafePath.
Result<std::filesystem::path> safe_path(const std::filesystem::path& below, std::string_view path);

}  // namespace yoke::models
