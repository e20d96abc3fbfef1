// Whether models fit on this machine, for lists of them. Main thread only.
#pragma once

#include <functional>
#include <string>

#include "config/config.h"
#include "models/catalogue.h"

namespace yoke::cli {

using FitText = std::function<std::string(const models::CatalogueEntry&)>;

// Looks at the machine once. No function if none of its backends can be used.
// "yes"; "partly", if some layers are left to the CPU beside a GPU; "no";
// nothing for what is not planned here, as models for vLLM.
FitText fits_here(const config::EnginesConfig& engines);

}  // namespace yoke::cli
