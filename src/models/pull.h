// Getting a model: which files, from where, and into the catalogue. Blocks; one thread at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "gguf/model.h"
#include "models/catalogue.h"
#include "models/reference.h"

namespace yoke::models {

inline constexpr ErrorCode kHubRefused{"hub_refused"};  // 401, 403: a token is needed.
inline constexpr ErrorCode kHubNotFound{"hub_not_found"};
inline constexpr ErrorCode kDownloadFailed{"download_failed"};    // Network, after all retries.
inline constexpr ErrorCode kDownloadDamaged{"download_damaged"};  // The SHA-256 is another.
inline constexpr ErrorCode kDiskFull{"disk_full"};
inline constexpr ErrorCode kPullCancelled{"pull_cancelled"};

// Where hubs are and how they are asked; from HF_ENDPOINT, HF_TOKEN (or HF_TOKEN_PATH, or
// $HF_HOME/token).
struct HubAccess {
  std::string endpoint = "https://huggingface.co";
  std::string token;  // Empty: none. Sent to the endpoint's host only; never to be logged.
};
HubAccess hub_access();

struct PullProgress {
  std::uint64_t done = 0;   // Bytes of all files that are there, and of
  std::uint64_t total = 0;  // all that there will be.
  std::string file;         // The one at work.
  bool checking = false;    // Its SHA-256 is being computed.
};

inline constexpr int kMostConnections = 16;

struct PullOptions {
  std::filesystem::path model_dir;
  std::string name;  // For the catalogue; empty: from the reference.
  HubAccess hub;
  int connections = 4;    // Up to kMostConnections.
  bool projector = true;  // Also the mmproj file, if there is one.
  const std::atomic<bool>* cancel = nullptr;
  std::function<void(const PullProgress&)> on_progress;  // Some times a second.
  std::function<void(const std::string&)> on_note;       // A sentence: that it waits, and why.
};

// Files that are whole are kept, those that were begun go on. On an error what is there stays for
// the next call. The errors above, of parse_reference, of Catalogue and of gguf::open_model.
Result<CatalogueEntry> pull(const ModelReference& reference, const PullOptions& options);

// The headers of a model at a hub or an address, without the rest of it.
Result<gguf::Model> remote_model(const ModelReference& reference, const HubAccess& hub,
                                 const std::atomic<bool>* cancel = nullptr);

}  // namespace yoke::models
