// `yoke list`: which models there are. Main thread only.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <boost/json/object.hpp>

#include "base/result.h"
#include "cli/model_place.h"
#include "cli/terminal.h"
#include "models/catalogue.h"
#include "models/cut_pull.h"

namespace yoke::cli {

struct ListOptions {
  ModelPlace place;
  bool json = false;
};

// Also the models of the configuration that are not in the catalogue. What config_of and Catalogue
// report.
Result<void> list_models(const ListOptions& options);

struct ListedModel {
  models::CatalogueEntry entry;
  std::string fits{};                            // As fits_here() says.
  std::vector<std::filesystem::path> missing{};  // Of its files.
  bool configured = false;                       // Known from the configuration only.
};

// A line for each.
std::string format_cut_pulls(const std::vector<models::CutPull>& cut);
std::string format_models(const std::vector<ListedModel>& models, const Terminal& terminal);
boost::json::object to_json(const ListedModel& model);

}  // namespace yoke::cli
