// What a model remembers of the tokens before: keys and values by cell, and the states of
// recurrent layers. Private to the planner; pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "planner/compute_graph.h"
#include "planner/memory.h"

namespace yoke::planner {

// How many tokens fit where, after llama_context has rounded what was asked for.
struct CacheCells {
  std::uint64_t context = 0;  // Tokens of all sequences together.
  std::uint64_t streams = 1;  // Sequences with cells of their own.
  std::uint64_t full = 0;     // Cells of one stream in layers that attend to everything,
  std::uint64_t sliding = 0;  // and in those that look through a window.
  std::uint64_t ubatch = 0;   // Tokens of the largest ubatch.
};

CacheCells cells_of(const ModelShape& shape, const RunOptions& options);

// Of `elements` numbers in a row; none for a name that the cache can't be made of, or a row that
// does not fill whole blocks.
std::optional<std::uint64_t> cache_row_bytes(std::string_view type, std::uint64_t elements);

// None for a type that the cache can't be made of.
std::optional<Element> cache_element(std::string_view type);

bool is_quantized_cache(std::string_view type);

// Adds the layer's part to `memory`. False if the types don't suit it.
bool add_cache(DeviceMemory& memory, const ModelShape& shape, const LayerShape& layer,
               const RunOptions& options, const CacheCells& cells);

}  // namespace yoke::planner
