// Manifest: what `yoke doctor --fix` changed, and what was there before. It is on the disk before
// the first file changes, so that --undo works after any crash.
// A plain value; load and save block, one thread at a time.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "doctor/system_tree.h"

namespace yoke::doctor {

inline constexpr ErrorCode kDoctorBackupInvalid{"doctor_backup_invalid"};

inline constexpr std::string_view kDoctorDirectory = "/var/lib/yoke/doctor";
inline constexpr std::string_view kManifestPath = "/var/lib/yoke/doctor/backup.json";

struct ChangedFile {
  std::string path;
  std::optional<SystemTree::File> original;  // Nothing: there was no such file.
  std::vector<std::string> written;          // What Yoke wrote; in the middle of a change two.
};

struct Manifest {
  std::vector<ChangedFile> files;
  std::vector<std::string> made_directories;  // Outermost first.

  ChangedFile* find(std::string_view path);
};

// An empty one if there is none. kDoctorBackupInvalid if it is not what save() writes.
Result<Manifest> load_manifest(const SystemTree& tree);
Result<void> save_manifest(const SystemTree& tree, const Manifest& manifest);

}  // namespace yoke::doctor
