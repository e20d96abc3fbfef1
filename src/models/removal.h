// Removing a model: its entry, and of its files those that Yoke downloaded and nothing else uses.
// Blocks; one thread at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "base/result.h"
#include "models/catalogue.h"

namespace yoke::models {

struct Removal {
  std::vector<std::filesystem::path> files;    // To be removed, partial downloads of them included.
  std::uint64_t bytes = 0;                     // Of these.
  std::vector<std::filesystem::path> linked;   // Somebody else's.
  std::vector<std::filesystem::path> shared;   // Of other entries too.
  std::vector<std::filesystem::path> outside;  // Not below the directory of models.
};

// What would go if `entry` did. `all`: the catalogue.
Removal removal_of(const CatalogueEntry& entry, const std::vector<CatalogueEntry>& all,
                   const std::filesystem::path& model_dir);

// First the entry goes, together with a note of the files that have to follow, then the files, then
// the note. A kill in between leaves no entry without its files, and the next sweep() finds the
// files that were left. What removal_of says for it; kIo for a file that can't be removed, which
// stays noted; errors of Catalogue.
Result<Removal> remove_model(Catalogue& catalogue, const CatalogueEntry& entry,
                             const std::filesystem::path& model_dir);

// The same of a pull that was cut: the files that it got so far, in whole or in part. For files of
// other models only what is partial goes.
Removal removal_of(const BegunPull& pull, const std::vector<CatalogueEntry>& all,
                   const std::filesystem::path& model_dir);
Result<Removal> remove_pull(Catalogue& catalogue, const BegunPull& pull,
                            const std::filesystem::path& model_dir);

// Removes the files that an earlier removal was kept from, and directories that become empty.
Result<void> sweep(Catalogue& catalogue, const std::filesystem::path& model_dir);

}  // namespace yoke::models
