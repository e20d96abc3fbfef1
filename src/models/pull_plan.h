// What a reference stands for at its source: which files, and where on the disk they go. Blocks;
// one thread at a time.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "models/catalogue.h"
#include "models/download.h"
#include "models/http_client.h"
#include "models/pull.h"

namespace yoke::models {

struct PlannedFile {
  Download download;
  FileRole role = FileRole::kWeights;
  std::int64_t modified = -1;  // At its source, if that says no checksum; seconds since 1970.
};

struct PullPlan {
  std::string format;          // "gguf", "huggingface"
  std::string name;            // That the model has by itself,
  std::string owner;           // and of whom, to tell it from others of that name.
  std::string revision;        // The commit, of a hub's model.
  std::filesystem::path path;  // What an engine will load.
  std::vector<PlannedFile> files;
};

// Asks the source; changes nothing on the disk. Errors of list_repository, choose and safe_path.
Result<PullPlan> plan_pull(HttpClient& client, const HubReference& reference,
                           const PullOptions& options);
Result<PullPlan> plan_pull(HttpClient& client, const UrlReference& reference,
                           const PullOptions& options);
// The same without asking: no sizes, no sums, and files that may not be there.
Result<PullPlan> plan_unseen(const UrlReference& reference, const PullOptions& options);

}  // namespace yoke::models
