#include "cli/fit.h"

#include <memory>
#include <optional>

#include "cli/plan_inputs.h"
#include "gguf/model.h"
#include "planner/load_request.h"

namespace yoke::cli {
namespace {

std::string fit_of(const models::CatalogueEntry& entry, const PlanHardware& hardware) {
  config::LoadOptions options;
  options.model_path = entry.path;
  options.mmproj = entry.projector();
  const auto model = gguf::open_model(entry.path);
  if (!model) return "";
  auto shape = planner::shape_of(*model);
  if (!shape) return "";
  const auto request = planner::plan_request(std::move(*shape), decided_options(options, hardware));
  const auto plan = planner::make_plan(request, hardware.inventory);
  if (!plan) return "";
  if (!plan->fits) return "no";
  const bool has_gpu = hardware.inventory.devices.size() > 1;
  // The output counts as one layer more.
  const bool all = plan->gpu_layers > request.shape.layers.size();
  return has_gpu && !all ? "partly" : "yes";
}

}  // namespace

FitText fits_here(const config::EnginesConfig& engines) {
  const auto hardware = this_hardware({}, engines);
  if (!hardware) return {};
  // The function is copied, the hardware need not be.
  const auto shared = std::make_shared<const PlanHardware>(*hardware);
  return [shared](const models::CatalogueEntry& entry) -> std::string {
    return entry.format == "gguf" ? fit_of(entry, *shared) : "";
  };
}

}  // namespace yoke::cli
