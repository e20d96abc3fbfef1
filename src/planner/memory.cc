#include "planner/memory.h"

#include <algorithm>

#include <fmt/format.h>

#include "planner/compute_buffer.h"
#include "planner/kv_cache.h"

namespace yoke::planner {
namespace {

constexpr std::uint64_t kMostTokens = std::uint64_t{1} << 24;
constexpr std::uint64_t kMostSequences = 256;  // LLAMA_MAX_SEQ

Result<void> check(bool holds, const char* message, const char* hint = "") {
  if (holds) return {};
  return fail(kModelUnplannable, message, hint);
}

Result<void> check_options(const RunOptions& options, bool latent) {
  YOKE_CHECK(check(options.n_ctx <= kMostTokens, "The context is longer than any model's."));
  YOKE_CHECK(check(
      options.n_batch > 0 && options.n_batch <= kMostTokens && options.n_ubatch <= kMostTokens,
      "A batch has at least one token and at most 16777216."));
  YOKE_CHECK(check(options.sequences > 0 && options.sequences <= kMostSequences,
                   "An engine serves 1 to 256 sequences at a time."));
  YOKE_CHECK(
      check(cache_row_bytes(options.cache_type_k, 0) && cache_row_bytes(options.cache_type_v, 0),
            "That is no type of which the engine can make its cache.",
            "Use f16, bf16, f32, q8_0, q5_1, q5_0, q4_1, q4_0 or iq4_nl."));
  YOKE_CHECK(check(!latent || options.cache_type_k == options.cache_type_v,
                   "This model keeps keys and values as one, in a cache of one type.",
                   "Set the same type for both."));
  return check(options.flash_attention || !is_quantized_cache(options.cache_type_v),
               "The engine can quantize the cache of values only with flash attention.",
               "Turn flash attention on, or use f16 for the values.");
}

Result<void> check_placement(const ModelShape& shape, const Placement& placement) {
  const auto known = [&](std::uint32_t device) { return device < placement.devices.size(); };
  constexpr std::size_t kMostDevices = 16;  // GGML_SCHED_MAX_BACKENDS
  YOKE_CHECK(check(placement.devices.size() <= kMostDevices,
                   "llama.cpp computes on 16 devices at most, the CPU among them."));
  YOKE_CHECK(check(!placement.devices.empty() && placement.devices.front().kind == DeviceKind::kCpu,
                   "The first device of a placement is the host's CPU."));
  return check(placement.layer_device.size() == shape.layers.size() &&
                   known(placement.output_device) &&
                   std::ranges::all_of(placement.layer_device, known),
               "The placement does not fit the model.");
}

std::uint64_t margin(const ModelShape& shape, std::uint64_t compute) {
  if (shape.measured) return 0;
  const bool recurrent = std::ranges::any_of(
      shape.layers, [](const LayerShape& layer) { return layer.state_bytes > 0; });
  return recurrent ? compute / 2 : compute / 4;
}

void add_notes(MemoryEstimate& estimate, const ModelShape& shape, const Placement& placement) {
  constexpr std::uint64_t kMostVulkanBytes = 0xffff'ffff;
  const bool vulkan = std::ranges::any_of(
      placement.devices, [](const PlacedDevice& device) { return device.backend == "vulkan"; });
  const bool large = std::ranges::any_of(shape.kinds, [](const LayerKind& kind) {
    return std::ranges::any_of(kind.parts,
                               [](const PartShape& part) { return part.bytes > kMostVulkanBytes; });
  });
  if (vulkan && large) {
    estimate.notes.emplace_back(
        "The model has tensors of more than 4 GiB, which many Vulkan drivers can't address: the "
        "engine then leaves them to the CPU.");
  }
  if (placement.output_device == 0 && shape.tied_bytes > 0 && shape.repacks_tied) {
    estimate.notes.emplace_back(
        "Whether the host keeps its output matrix twice depends on its CPU; x86 with AVX2 does.");
  }
}

// llama_model's make_cpu_buft_list: with a GPU the host keeps weights where that reaches them, and
// repacks nothing.
bool shares_embedding(const ModelShape& shape, const Placement& placement) {
  const bool has_gpu = std::ranges::any_of(placement.devices, [](const PlacedDevice& device) {
    return device.kind == DeviceKind::kGpu;
  });
  return placement.output_device == 0 && (has_gpu || !shape.repacks_tied);
}

// llama_context::output_reserve, as it begins: grows if the server ever wants more at one time.
std::uint64_t output_bytes(const ModelShape& shape, const RunOptions& options) {
  const bool embeds = options.embeddings || shape.traits.bert;
  const std::uint64_t numbers = shape.vocabulary + (embeds ? shape.embedding_length : 0);
  return 4 * numbers * options.sequences;
}

}  // namespace

Result<MemoryEstimate> estimate_memory(const ModelShape& shape, const RunOptions& options,
                                       const Placement& placement) {
  YOKE_CHECK(check_options(options, shape.traits.latent));
  YOKE_CHECK(check_placement(shape, placement));
  MemoryEstimate estimate;
  estimate.devices.resize(placement.devices.size());
  estimate.notes = shape.notes;
  DeviceMemory& host = estimate.devices.front();
  host.weights += shape.input_bytes;
  estimate.devices[placement.output_device].weights +=
      shape.output_bytes - (shares_embedding(shape, placement) ? shape.tied_bytes : 0);
  const CacheCells cells = cells_of(shape, options);
  YOKE_CHECK(check(cells.context > 0, "The model does not say how long its context is.",
                   "Say how long the context shall be."));
  for (std::size_t i = 0; i < shape.layers.size(); ++i) {
    DeviceMemory& device = estimate.devices[placement.layer_device[i]];
    const LayerShape& layer = shape.layers[i];
    const bool scans_on_host =
        leaves_scan_to_host(shape, layer, placement.devices[placement.layer_device[i]]);
    const std::uint64_t on_host = scans_on_host ? shape.kinds[layer.kind][Part::kStateA].bytes : 0;
    host.weights += on_host;
    device.weights += layer.weight_bytes - on_host;
    YOKE_CHECK(check(add_cache(device, shape, shape.layers[i], options, cells),
                     "The model's keys or values don't fill whole blocks of that cache type.",
                     "Use f16."));
  }
  host.output = output_bytes(shape, options);
  const std::vector<std::uint64_t> compute = compute_buffers(shape, options, placement, cells);
  for (std::size_t i = 0; i < compute.size(); ++i) {
    estimate.devices[i].compute = compute[i] + margin(shape, compute[i]);
  }
  add_notes(estimate, shape, placement);
  return estimate;
}

}  // namespace yoke::planner
