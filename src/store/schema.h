// What is in a database file: whether Yoke can go on with it, and how an older one gets the tables
// of this version. One thread at a time.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "store/database.h"

namespace yoke::store {

const DatabaseKind& state_kind();  // state.db

// What is wrong with the file, as the end of a sentence, if no Yoke can go on with it: it is
// damaged, or another program's. Empty if it is well. An error if that can't be told.
Result<std::string> defect_of(Database& database);

// An error for the version of a later Yoke.
Result<void> check_version(std::int64_t version, const DatabaseKind& kind);

// Brings the tables to this version. An error also for a file of a later version.
Result<void> migrate(Database& database);

// Opens `file` or makes it, and brings it to this version. One with a defect is put aside, and said
// in `notes`. After a power failure what was written last may be missing, but the file is whole.
Result<Database> open_sound(const std::filesystem::path& file, const DatabaseKind& kind,
                            std::vector<std::string>& notes);

}  // namespace yoke::store
