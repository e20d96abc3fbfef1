#include "planner/load_request.h"

#include <algorithm>
#include <utility>

namespace yoke::planner {
namespace {

using config::LoadOptions;

// Requests at once where nobody says how many; they share the context then. llama-server's choice.
constexpr std::uint64_t kRequestsAtOnce = 4;

std::uint64_t positive(int value) { return static_cast<std::uint64_t>(std::max(value, 0)); }

RunOptions run_options(const LoadOptions& options, std::uint64_t trained_context) {
  RunOptions run;
  run.n_ctx = options.n_ctx > 0 ? positive(options.n_ctx) : trained_context;
  run.n_batch = positive(options.n_batch);
  run.n_ubatch = std::min(positive(options.n_ubatch), run.n_batch);
  run.unified_cache = options.parallel == 0;
  run.sequences = options.parallel > 0 ? positive(options.parallel) : kRequestsAtOnce;
  run.flash_attention = options.flash_attn != config::FlashAttention::kOff;
  run.embeddings = options.server_type != config::ServerType::kLlm;
  if (!options.cache_type_k.empty()) run.cache_type_k = options.cache_type_k;
  if (!options.cache_type_v.empty()) run.cache_type_v = options.cache_type_v;
  return run;
}

}  // namespace

PlanRequest plan_request(ModelShape shape, const LoadOptions& options) {
  PlanRequest request;
  request.options = run_options(options, shape.context_length);
  request.shape = std::move(shape);
  request.gpu_layers = options.n_gpu_layers;
  request.split = options.tensor_split;
  return request;
}

}  // namespace yoke::planner
