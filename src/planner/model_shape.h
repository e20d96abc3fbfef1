// ModelShape: what of a model takes memory, by layer, from its header. Values; pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "gguf/model.h"
#include "planner/layer_kind.h"

namespace yoke::planner {

inline constexpr ErrorCode kModelUnplannable{"model_unplannable"};

// How a layer remembers the tokens before.
enum class LayerMemory {
  kNone,       // It does not.
  kAttention,  // A key and a value per token; with multi-head latent attention one vector.
  kSliding,    // The same for the tokens of a window.
  kRecurrent,  // A state of fixed size.
};

struct LayerShape {
  std::uint64_t weight_bytes = 0;  // Of all its tensors,
  std::uint64_t expert_bytes = 0;  // of these the routed experts'.
  LayerMemory memory = LayerMemory::kAttention;
  std::uint64_t heads = 0;
  std::uint64_t key_elements = 0;    // Cached per token: KV heads times the key's length.
  std::uint64_t value_elements = 0;  // 0 with multi-head latent attention: the key holds it.
  std::uint64_t state_bytes = 0;     // Of a recurrent layer, per sequence.
  std::uint32_t kind = 0;            // Index into ModelShape::kinds,
  std::uint32_t alike = 0;           // and that of the first which computes the same from weights
                                     // that are stored differently.
};

struct ModelShape {
  std::string architecture;
  std::vector<LayerShape> layers;
  std::vector<LayerKind> kinds;  // What they compute, for the compute buffers.
  ModelTraits traits;
  std::uint64_t input_bytes = 0;   // The token embedding; the engine keeps it on the host.
  std::uint64_t output_bytes = 0;  // The output's norm and matrix; where that is the embedding
                                   // (tied), its copy,
  std::uint64_t tied_bytes = 0;    // so much of them, which the host needs no second time,
  bool repacks_tied = false;       // unless its CPU stores the matrix in an order of its own.
  std::uint64_t embedding_length = 0;
  std::uint64_t vocabulary = 0;      // In tokens.
  std::uint64_t context_length = 0;  // In tokens, that it was trained for.
  std::uint64_t window = 0;          // In tokens, of kSliding.
  bool measured = false;             // The estimate of such models was compared with the engine's.
  // What is uncertain about it, one sentence each: an architecture that Yoke doesn't know.
  std::vector<std::string> notes;
};

// kModelUnplannable: a projector, an adapter, a lone part, or a header without what it takes.
Result<ModelShape> shape_of(const gguf::Model& model);

}  // namespace yoke::planner
