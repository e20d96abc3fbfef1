#include "planner/kv_cache.h"

#include <algorithm>
#include <array>

namespace yoke::planner {
namespace {

constexpr std::uint64_t kPadding = 256;  // Of cells, in llama_context and llama_kv_cache_iswa.

constexpr std::uint64_t pad(std::uint64_t number, std::uint64_t to) {
  return (number + to - 1) / to * to;
}

struct CacheType {
  std::string_view name;
  std::uint64_t block_elements;
  std::uint64_t block_bytes;
};

// kv_cache_types in llama.cpp's common/arg.cpp.
constexpr std::array kTypes{
    CacheType{"f32", 1, 4},      CacheType{"f16", 1, 2},    CacheType{"bf16", 1, 2},
    CacheType{"q8_0", 32, 34},   CacheType{"q4_0", 32, 18}, CacheType{"q4_1", 32, 20},
    CacheType{"iq4_nl", 32, 18}, CacheType{"q5_0", 32, 22}, CacheType{"q5_1", 32, 24},
};

const CacheType* find_type(std::string_view name) {
  const auto found = std::ranges::find(kTypes, name, &CacheType::name);
  return found == kTypes.end() ? nullptr : &*found;
}

// Without flash attention values lie transposed, with the same width in all layers.
std::uint64_t value_width(const ModelShape& shape, const LayerShape& layer,
                          const RunOptions& options) {
  if (options.flash_attention || layer.value_elements == 0) return layer.value_elements;
  std::uint64_t widest = 0;
  for (const LayerShape& other : shape.layers) widest = std::max(widest, other.value_elements);
  return widest;
}

}  // namespace

CacheCells cells_of(const ModelShape& shape, const RunOptions& options) {
  CacheCells cells;
  const std::uint64_t wanted = options.n_ctx != 0 ? options.n_ctx : shape.context_length;
  // A model that sees its text whole takes a batch of any size.
  const std::uint64_t batch =
      shape.traits.cached ? std::min(wanted, options.n_batch) : options.n_batch;
  cells.context = pad(wanted, kPadding);
  cells.full = cells.context;
  if (!options.unified_cache) {
    cells.streams = options.sequences;
    cells.full = pad(cells.context / options.sequences, kPadding);
    cells.context = cells.full * options.sequences;
  }
  const std::uint64_t ubatch = options.n_ubatch == 0 ? batch : std::min(batch, options.n_ubatch);
  cells.ubatch = std::min(cells.context, ubatch);
  const std::uint64_t windows = shape.window * (options.unified_cache ? options.sequences : 1);
  cells.sliding = pad(std::min(cells.full, windows + ubatch), kPadding);
  return cells;
}

std::optional<std::uint64_t> cache_row_bytes(std::string_view type, std::uint64_t elements) {
  const CacheType* const found = find_type(type);
  if (found == nullptr || elements % found->block_elements != 0) return std::nullopt;
  return elements / found->block_elements * found->block_bytes;
}

std::optional<Element> cache_element(std::string_view type) {
  const CacheType* const found = find_type(type);
  if (found == nullptr) return std::nullopt;
  return Element{found->block_elements, found->block_bytes};
}

bool is_quantized_cache(std::string_view type) {
  const CacheType* const found = find_type(type);
  return found != nullptr && found->block_elements > 1;
}

bool add_cache(DeviceMemory& memory, const ModelShape& shape, const LayerShape& layer,
               const RunOptions& options, const CacheCells& cells) {
  memory.state += layer.state_bytes * options.sequences;
  if (layer.key_elements == 0) return true;
  const std::uint64_t depth = layer.memory == LayerMemory::kSliding ? cells.sliding : cells.full;
  const auto key = cache_row_bytes(options.cache_type_k, layer.key_elements);
  const auto value = cache_row_bytes(options.cache_type_v, value_width(shape, layer, options));
  if (!key || !value) return false;
  memory.kv += (*key + *value) * depth * cells.streams;
  return true;
}

}  // namespace yoke::planner
