// What a hub says of a repository. Blocks; one thread at a time.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "models/choice.h"
#include "models/http_client.h"
#include "models/pull.h"
#include "models/retry.h"

namespace yoke::models {

struct Repository {
  std::string commit;
  std::vector<HubFile> files;
};

// All files at the reference's revision. kHubRefused, kHubNotFound, kDownloadFailed,
// kPullCancelled.
Result<Repository> list_repository(HttpClient& client, const HubAccess& hub,
                                   const HubReference& reference, const std::atomic<bool>* cancel,
                                   const std::function<void(const std::string&)>& on_note);

// The file `path` of it, for requests and for messages.
Subject subject_of(const HubAccess& hub, const HubReference& reference, const std::string& commit,
                   const std::string& path);

// The token, if it may go to that address.
std::string bearer_for(const HubAccess& hub, const std::string& url);

}  // namespace yoke::models
