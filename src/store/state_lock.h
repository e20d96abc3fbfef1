// Keeps a state directory to one server at a time. Owned by the Store; any thread.
#pragma once

#include <filesystem>

#include "base/result.h"
#include "base/unique_fd.h"

namespace yoke::store {

// Holds for as long as the descriptor is open; children that run another program don't get it. The
// kernel gives it back however the process ends. kStoreInUse, kStoreFailed.
Result<UniqueFd> lock_state(const std::filesystem::path& dir);

}  // namespace yoke::store
