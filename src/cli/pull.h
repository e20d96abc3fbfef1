// `yoke pull`: gets a model and enters it in the catalogue. Main thread only.
#pragma once

#include <string>

#include "base/result.h"

namespace yoke::cli {

struct PullCommandOptions {
  std::string reference;      // "hf:org/repo:Q4_K_M", "https://…", "file:…"
  std::string name;           // For the catalogue; empty: from the reference.
  bool no_projector = false;  // Not the mmproj file.
  int connections = 4;        // 1 to models::kMostConnections.
  std::string config_file;    // Names the directory of models; empty: the usual one.
  std::string model_dir;      // Before the configuration's.
  bool json = false;          // One JSON object per line in place of text.
};

// Takes as long as the download. Errors of models::pull and of the configuration; kCancelled after
// Ctrl-C.
Result<void> pull(const PullCommandOptions& options);

}  // namespace yoke::cli
