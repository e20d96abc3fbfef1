#include "cli/catalogue_models.h"

#include <algorithm>

#include <fmt/format.h>

#include "models/catalogue.h"

namespace yoke::cli {

Result<void> take_from_catalogue(config::Config& config) {
  const auto is_asked = [](const config::ModelConfig& model) {
    return !model.catalogue_name.empty();
  };
  if (std::ranges::none_of(config.models, is_asked)) return {};
  using models::Catalogue;
  YOKE_TRY(const auto catalogue, Catalogue::open(config.server.model_dir, Catalogue::Use::kRead));
  for (config::ModelConfig& model : config.models) {
    if (!is_asked(model)) continue;
    auto entry = catalogue->find(model.catalogue_name);
    if (!entry) {
      Error error = std::move(entry.error());
      error.message = fmt::format("{}:{}: {}", config.file.string(), model.line, error.message);
      return fail(std::move(error));
    }
    model.options.model_path = entry->path;
    if (model.options.mmproj.empty()) model.options.mmproj = entry->projector();
  }
  return {};
}

}  // namespace yoke::cli
