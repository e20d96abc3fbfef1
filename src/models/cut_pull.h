// Pulls that something cut: what of them is on the disk. Reads only; blocks; one thread at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "models/catalogue.h"

namespace yoke::models {

struct CutPull {
  BegunPull pull;
  std::uint64_t done = 0;   // Bytes that are there for certain, of
  std::uint64_t total = 0;  // all that there will be.
};

// Those of which there is a file, or part of one; also one that is going on now. Errors of
// Catalogue.
Result<std::vector<CutPull>> cut_pulls(Catalogue& catalogue);

}  // namespace yoke::models
