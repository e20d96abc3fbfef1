#include "planner/compute_buffer.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "planner/graph_allocator.h"
#include "planner/graph_schedule.h"
#include "planner/model_graph.h"

namespace yoke::planner {
namespace {

constexpr std::uint64_t kVulkanPiece = std::uint64_t{1} << 30;  // ggml_vk_get_device
constexpr std::uint64_t kPipelineCopies = 4;                    // GGML_SCHED_MAX_COPIES
// So many layers of a kind in a row find all that there is to find.
constexpr std::uint32_t kEnoughAlike = 3;
constexpr std::uint32_t kAllLayers = ~std::uint32_t{0};

// The engine counts GPUs from 0 and the CPU last.
std::int8_t engine_device(const Placement& placement, std::uint32_t device) {
  const auto count = static_cast<std::int8_t>(placement.devices.size());
  return device == 0 ? static_cast<std::int8_t>(count - 1) : static_cast<std::int8_t>(device - 1);
}

bool is_vulkan(const PlacedDevice& device) { return device.backend == "vulkan"; }

std::vector<BufferTraits> traits_of(const Placement& placement) {
  std::vector<BufferTraits> traits;
  for (std::size_t i = 1; i < placement.devices.size(); ++i) {
    BufferTraits device;
    device.alignment = is_vulkan(placement.devices[i]) ? 16 : 128;
    if (is_vulkan(placement.devices[i])) device.largest = kVulkanPiece;
    traits.push_back(device);
  }
  BufferTraits host;
  const bool pinned = placement.devices.size() > 1 && is_vulkan(placement.devices[1]) &&
                      placement.devices[1].kind == DeviceKind::kGpu;
  if (pinned) host.largest = kVulkanPiece;
  traits.push_back(host);
  return traits;
}

// llama_context: in turns on several batches if all is on GPUs, here or behind RPC servers.
std::uint64_t copies_of(const Placement& placement) {
  const bool all_on_gpus =
      placement.output_device != 0 &&
      std::ranges::find(placement.layer_device, 0U) == placement.layer_device.end();
  return placement.devices.size() > 2 && all_on_gpus ? kPipelineCopies : 1;
}

ScheduleOptions schedule_options(const Placement& placement) {
  ScheduleOptions options;
  options.devices = static_cast<std::int8_t>(placement.devices.size());
  options.copies = copies_of(placement);
  for (std::size_t i = 1; i < placement.devices.size(); ++i) {
    const bool local = placement.devices[i].kind == DeviceKind::kGpu;
    options.vulkan.push_back(local && is_vulkan(placement.devices[i]));
    if (options.offload < 0 && local) options.offload = static_cast<std::int8_t>(i - 1);
  }
  return options;
}

// Recurrent layers leave holes in the buffers that differ from layer to layer.
std::uint32_t enough_alike(const ModelShape& shape) {
  return std::ranges::any_of(shape.kinds, &LayerKind::keeps_state) ? kAllLayers : kEnoughAlike;
}

// Of layers that follow each other alike, only as many as make a difference.
std::vector<GraphLayer> telling_layers(const ModelShape& shape, const Placement& placement,
                                       std::uint32_t enough) {
  std::vector<GraphLayer> layers;
  std::map<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>, std::uint32_t> seen;
  std::uint32_t before = ~std::uint32_t{0};
  const bool weights_travel = placement.devices.size() > 1;
  std::size_t used = shape.layers.size();
  const auto is_unused = [&](const LayerShape& layer) { return layer.weight_bytes == 0; };
  while (used > 0 && is_unused(shape.layers[used - 1])) --used;
  for (std::size_t i = 0; i < used; ++i) {
    const std::uint32_t device = placement.layer_device[i];
    const LayerShape& layer = shape.layers[i];
    const std::uint32_t kind = device == 0 && weights_travel ? layer.kind : layer.alike;
    const std::uint32_t times = seen[{device, before, kind}]++;
    before = kind;
    if (times >= enough && i + 1 < used) continue;
    const bool scans_on_host = leaves_scan_to_host(shape, layer, placement.devices[device]);
    layers.push_back({&shape.kinds[layer.kind], engine_device(placement, device),
                      engine_device(placement, scans_on_host ? 0 : device)});
  }
  return layers;
}

bool all_lengths_divide(const ModelShape& shape, std::uint64_t LayerKind::* length) {
  std::uint64_t common = 0;
  for (const LayerKind& kind : shape.kinds) {
    if (!kind.keeps_keys) continue;
    if (common != 0 && kind.*length != common) return false;
    common = kind.*length;
  }
  return common != 0 && common % 64 == 0;
}

GraphRequest request_of(const ModelShape& shape, const RunOptions& options,
                        const CacheCells& cells) {
  GraphRequest request;
  request.sequences = options.sequences;
  request.cells = cells.full;
  request.sliding_cells = cells.sliding;
  request.streams = cells.streams;
  request.key_type = cache_element(options.cache_type_k).value_or(kHalf);
  request.value_type = cache_element(options.cache_type_v).value_or(kHalf);
  request.flash_attention = options.flash_attention;
  request.rotated_keys =
      is_quantized_cache(options.cache_type_k) && all_lengths_divide(shape, &LayerKind::key_length);
  request.rotated_values = is_quantized_cache(options.cache_type_v) &&
                           all_lengths_divide(shape, &LayerKind::value_length);
  for (const LayerShape& layer : shape.layers) {
    request.widest_values = std::max(request.widest_values, layer.value_elements);
  }
  request.embeddings = options.embeddings || shape.traits.bert;
  return request;
}

}  // namespace

bool leaves_scan_to_host(const ModelShape& shape, const LayerShape& layer,
                         const PlacedDevice& device) {
  const LayerKind& kind = shape.kinds[layer.kind];
  return device.kind == DeviceKind::kGpu && is_vulkan(device) && kind.has(Part::kStateA) &&
         !vulkan_can_scan(kind, shape.traits);
}

std::uint64_t most_outputs(const ModelShape& shape, const RunOptions& options) {
  if (options.outputs != 0) return options.outputs;
  return options.embeddings || shape.traits.bert ? options.n_batch : options.sequences;
}

namespace {

class Reserve {
 public:
  Reserve(const ModelShape& shape, const RunOptions& options, const Placement& placement,
          const CacheCells& cells)
      : shape_(shape),
        options_(options),
        placement_(placement),
        cells_(cells),
        by_(schedule_options(placement)),
        traits_(traits_of(placement)),
        on_gpus_(placement.output_device != 0 &&
                 std::ranges::find(placement.layer_device, 0U) == placement.layer_device.end()) {}

  // llama_context::sched_reserve: once for a whole ubatch of a prompt, once for one token of each
  // sequence. The prompt needs more of everything where one kind of device computes it all.
  std::vector<std::uint64_t> run() const {
    std::vector<std::uint64_t> sizes = measure(true);
    if (placement_.devices.size() == 1 || on_gpus_) return sizes;
    const std::vector<std::uint64_t> single = measure(false);
    for (std::size_t i = 0; i < sizes.size(); ++i) sizes[i] = std::max(sizes[i], single[i]);
    return sizes;
  }

 private:
  std::vector<std::uint64_t> measure(bool prompt) const {
    const GraphRequest request = requested(prompt);
    const GraphPlaces places{engine_device(placement_, 0),
                             engine_device(placement_, placement_.output_device),
                             on_gpus_ || request.tokens < kFewTokens};
    ComputeGraph graph = model_graph(
        shape_, telling_layers(shape_, placement_, enough_alike(shape_)), places, request);
    Schedule steps = schedule(graph, by_);
    // What is copied for several batches in turn stays, so that each layer counts.
    if (by_.copies > 1 && steps.parts > placement_.devices.size()) {
      graph = model_graph(shape_, telling_layers(shape_, placement_, kAllLayers), places, request);
      steps = schedule(graph, by_);
    }
    return by_placement(buffer_sizes(graph, steps, traits_));
  }

  GraphRequest requested(bool prompt) const {
    GraphRequest request = request_of(shape_, options_, cells_);
    const std::uint64_t sequences = options_.sequences;
    const std::uint64_t tokens = prompt ? cells_.ubatch : sequences;
    request.tokens = (tokens + sequences - 1) / sequences * sequences;
    request.outputs = prompt ? std::min(tokens, most_outputs(shape_, options_)) : sequences;
    return request;
  }

  std::vector<std::uint64_t> by_placement(const std::vector<std::uint64_t>& by_engine) const {
    std::vector<std::uint64_t> sizes;
    for (std::uint32_t i = 0; i < placement_.devices.size(); ++i) {
      sizes.push_back(by_engine[static_cast<std::size_t>(engine_device(placement_, i))]);
    }
    return sizes;
  }

  static constexpr std::uint64_t kFewTokens = 32;

  const ModelShape& shape_;
  const RunOptions& options_;
  const Placement& placement_;
  const CacheCells& cells_;
  ScheduleOptions by_;
  std::vector<BufferTraits> traits_;
  bool on_gpus_;
};

}  // namespace

std::vector<std::uint64_t> compute_buffers(const ModelShape& shape, const RunOptions& options,
                                           const Placement& placement, const CacheCells& cells) {
  return Reserve(shape, options, placement, cells).run();
}

}  // namespace yoke::planner
