// The tables of state.db, and how an older file gets them. One thread at a time.
#pragma once

#include <string>

#include "base/result.h"
#include "store/database.h"

namespace yoke::store {

// What is wrong with the file, as the end of a sentence, if no Yoke can go on with it: it is
// damaged, or another program's. Empty if it is well. kStoreFailed if that can't be told.
Result<std::string> defect_of(Database& database);

// Brings the tables to this version. kStoreFailed, also for a file of a later version.
Result<void> migrate(Database& database);

}  // namespace yoke::store
