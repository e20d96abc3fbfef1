// Keeps a directory to one Yoke at a time. Owned by the Store or a catalogue; any thread.
#pragma once

#include <filesystem>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace yoke::store {

// Holds for as long as the descriptor is open; children that run another program don't get it. The
// kernel gives it back however the process ends. kStoreInUse, kStoreFailed.
Result<UniqueFd> lock_state(const std::filesystem::path& dir);

// The same with a file of another name. `in_use`: the error if another process has it; "{}" in its
// message becomes " (process 123)", or nothing. `failed`, `elsewhere`: as of a DatabaseKind.
struct LockTerms {
  Error in_use;
  ErrorCode failed;
  std::string_view elsewhere;
};
Result<UniqueFd> lock_file(const std::filesystem::path& file, const LockTerms& terms);

}  // namespace yoke::store
