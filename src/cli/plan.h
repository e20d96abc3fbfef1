// `yoke plan`: whether a model fits here, or on machines that a file describes, and what would lie
// where, without loading it. Main thread only.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace yoke::cli {

// What is not given is decided as `yoke serve` would.
struct PlanOptions {
  std::string model;          // A file, a configured model, one of the catalogue, a reference.
  std::string hardware_file;  // Empty: this machine.
  std::string config_file;    // Empty: the usual one, if there is one.
  std::string model_dir;      // Whose catalogue; empty: the configuration's.
  std::optional<int> n_ctx;   // Tokens; 0: what the model was trained for.
  std::optional<int> parallel;
  std::optional<int> n_batch;
  std::optional<int> n_ubatch;
  std::optional<int> gpu_layers;     // -1: all that fit.
  std::vector<double> tensor_split;  // The share of each GPU; empty: by what fits.
  std::string flash_attention;       // "on", "off", "auto"
  std::string cache_type_k;
  std::string cache_type_v;
  std::string backend;  // "vulkan", "rocm", "cuda", "cpu"
  bool json = false;
};

// That a model doesn't fit is an answer, not an error. Errors of gguf::open_model,
// models::remote_model, Catalogue::find, config_of, config::load_machines, planner::shape_of and
// make_plan; kInvalidArgument for options.
Result<void> plan(const PlanOptions& options);

}  // namespace yoke::cli
