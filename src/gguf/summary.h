// What a person or a planner asks of a model first. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gguf/model.h"

namespace yoke::gguf {

enum class ModelKind {
  kModel,      // One that an engine loads by itself.
  kProjector,  // A multimodal projector, which goes with a model (mmproj).
  kAdapter,    // A LoRA adapter, which goes with a model.
  kPart,       // A part of a split model, not the first: load it by its first part.
};

// "model", "projector", "adapter", "part".
std::string_view kind_name(ModelKind kind);

// How much is stored in one form.
struct TypeShare {
  std::string type;  // "Q4_K"
  std::uint64_t bytes = 0;
  std::uint64_t tensors = 0;
};

// The least and the most of something that can differ by layer.
struct Range {
  std::uint64_t least = 0;
  std::uint64_t most = 0;
};

// What is not in the file is none or empty.
struct Summary {
  ModelKind kind = ModelKind::kModel;
  std::string architecture;
  std::string name;
  std::uint64_t parameters = 0;  // Elements of all tensors.
  std::uint64_t tensors = 0;
  std::uint64_t tensor_bytes = 0;
  std::uint64_t file_bytes = 0;  // Of all parts.
  std::uint64_t parts = 1;
  std::uint32_t part_number = 0;  // From 1, of `parts_in_all`; set for kPart.
  std::uint32_t parts_in_all = 0;

  std::string quantization;              // What most bytes are in; empty without tensors.
  std::vector<TypeShare> types;          // By bytes, the largest first.
  std::optional<std::string> file_type;  // What the file says it is: "Q4_K_M".

  std::optional<std::uint64_t> context_length;  // In tokens.
  std::optional<std::uint64_t> layers;
  std::optional<std::uint64_t> embedding_length;
  std::optional<Range> heads;
  std::optional<Range> kv_heads;  // 0 in layers without a KV cache.
  std::optional<std::uint64_t> experts;
  std::optional<std::uint64_t> experts_used;    // Per token.
  std::optional<std::uint64_t> kv_lora_rank;    // Set with multi-head latent attention (MLA).
  std::optional<std::uint64_t> sliding_window;  // In tokens; of some or all layers.
  bool recurrent = false;  // Some or all layers keep a state instead of a KV cache.

  std::optional<std::uint64_t> vocabulary;  // In tokens.
  std::string tokenizer;                    // "gpt2"
  std::string tokenizer_pre;                // "smollm"
  std::string chat_template;
  std::vector<std::string> more_templates;  // Names of further chat templates.
};

Summary summarize(const Model& model);

}  // namespace yoke::gguf
