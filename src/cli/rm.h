// `yoke rm`: removes models from the catalogue, and from the disk what Yoke put there. Main thread
// only.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cli/model_place.h"

namespace yoke::cli {

struct RmOptions {
  ModelPlace place;
  std::vector<std::string> names;  // Of models, or references of pulls that were cut.
  bool yes = false;                // Don't ask.
};

// Nothing is removed if one of the names is unknown. kUsage if it would have to ask and there is no
// terminal, kCancelled if the answer is no; what config_of, Catalogue and models::remove_model
// report.
Result<void> remove_models(const RmOptions& options);

}  // namespace yoke::cli
