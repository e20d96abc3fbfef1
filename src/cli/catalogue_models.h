// Models that the configuration takes from the catalogue. Main thread only.
#pragma once

#include "base/result.h"
#include "config/config.h"

namespace yoke::cli {

// Fills in model_path, and mmproj where the configuration has none. models::kModelUnknown with the
// line of the first that the catalogue doesn't have; errors of models::Catalogue.
Result<void> take_from_catalogue(config::Config& config);

}  // namespace yoke::cli
