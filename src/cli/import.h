// `yoke import`: models that other programs keep here, linked into the catalogue. Main thread only.
#pragma once

#include <string>

#include "base/result.h"
#include "cli/model_place.h"

namespace yoke::cli {

struct ImportOptions {
  ModelPlace place;
  std::string dir{};     // Empty: where other programs of this user keep theirs.
  bool dry_run = false;  // Only say what there is.
  bool json = false;
};

// What config_of, models::scan and Catalogue report.
Result<void> import_models(const ImportOptions& options);

}  // namespace yoke::cli
