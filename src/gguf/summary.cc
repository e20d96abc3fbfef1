#include "gguf/summary.h"

#include <algorithm>
#include <array>
#include <map>
#include <tuple>

#include "gguf/tensor_type.h"

namespace yoke::gguf {
namespace {

constexpr std::string_view kTemplate = "tokenizer.chat_template";

std::string text_or_empty(const Metadata& metadata, std::string_view key) {
  const std::string* const text = metadata.string(key);
  return text == nullptr ? std::string() : *text;
}

std::optional<std::uint64_t> positive(std::optional<std::uint64_t> number) {
  return number.value_or(0) > 0 ? number : std::nullopt;
}

ModelKind kind_of(const Model& model) {
  if (model.lone_part) return ModelKind::kPart;
  const std::string type = text_or_empty(model.metadata, "general.type");
  if (type == "adapter") return ModelKind::kAdapter;
  if (type == "mmproj" || model.metadata.architecture() == "clip") return ModelKind::kProjector;
  return ModelKind::kModel;
}

std::optional<Range> range_of(const Metadata& metadata, const std::string& key) {
  if (const auto number = metadata.integer(key)) return Range{*number, *number};
  const Array* const array = metadata.array(key);
  if (array == nullptr || !array->complete()) return std::nullopt;
  const auto numbers = metadata.per_layer(key, array->count);
  if (!numbers || numbers->empty()) return std::nullopt;
  const auto [least, most] = std::ranges::minmax(*numbers);
  return Range{least, most};
}

// Of Mamba, RWKV, LFM2's convolutions, and the hybrids with them.
bool is_recurrent(const Metadata& metadata) {
  constexpr std::array<std::string_view, 5> kKeys{"ssm.state_size", "ssm.conv_kernel",
                                                  "wkv.head_size", "shortconv.l_cache",
                                                  "attention.recurrent_layers"};
  return std::ranges::any_of(kKeys, [&](std::string_view key) {
    return metadata.find(metadata.of_architecture(key)) != nullptr;
  });
}

void add_tensors(Summary& summary, const std::vector<Tensor>& tensors) {
  std::map<std::uint32_t, TypeShare> shares;
  for (const Tensor& tensor : tensors) {
    TypeShare& share = shares[tensor.type];
    share.bytes += tensor.bytes;
    ++share.tensors;
    summary.parameters += tensor.elements();
    summary.tensor_bytes += tensor.bytes;
  }
  summary.tensors = tensors.size();
  for (auto& [type, share] : shares) {
    share.type = tensor_type_name(type);
    summary.types.push_back(std::move(share));
  }
  std::ranges::sort(summary.types, [](const TypeShare& a, const TypeShare& b) {
    return std::tie(b.bytes, a.type) < std::tie(a.bytes, b.type);
  });
  if (!summary.types.empty()) summary.quantization = summary.types.front().type;
}

void add_shape(Summary& summary, const Metadata& metadata) {
  const auto integer = [&](std::string_view key) {
    return metadata.integer(metadata.of_architecture(key));
  };
  summary.context_length = integer("context_length");
  summary.layers = integer("block_count");
  summary.embedding_length = integer("embedding_length");
  summary.heads = range_of(metadata, metadata.of_architecture("attention.head_count"));
  summary.kv_heads = range_of(metadata, metadata.of_architecture("attention.head_count_kv"));
  if (!summary.kv_heads) summary.kv_heads = summary.heads;
  summary.experts = positive(integer("expert_count"));
  summary.experts_used = positive(integer("expert_used_count"));
  summary.kv_lora_rank = positive(integer("attention.kv_lora_rank"));
  summary.sliding_window = positive(integer("attention.sliding_window"));
  summary.recurrent = is_recurrent(metadata);
}

void add_tokenizer(Summary& summary, const Metadata& metadata) {
  summary.tokenizer = text_or_empty(metadata, "tokenizer.ggml.model");
  summary.tokenizer_pre = text_or_empty(metadata, "tokenizer.ggml.pre");
  if (const Array* const tokens = metadata.array("tokenizer.ggml.tokens")) {
    summary.vocabulary = tokens->count;
  } else {
    summary.vocabulary = metadata.integer(metadata.of_architecture("vocab_size"));
  }
  summary.chat_template = text_or_empty(metadata, kTemplate);
  for (const auto& [key, value] : metadata.values()) {
    if (key.starts_with(kTemplate) && key.size() > kTemplate.size() + 1 &&
        key[kTemplate.size()] == '.' && metadata.string(key) != nullptr) {
      summary.more_templates.push_back(key.substr(kTemplate.size() + 1));
    }
  }
}

}  // namespace

std::string_view kind_name(ModelKind kind) {
  switch (kind) {
    case ModelKind::kModel:
      return "model";
    case ModelKind::kProjector:
      return "projector";
    case ModelKind::kAdapter:
      return "adapter";
    case ModelKind::kPart:
      return "part";
  }
  return "model";
}

Summary summarize(const Model& model) {
  Summary summary;
  const Metadata& metadata = model.metadata;
  summary.kind = kind_of(model);
  summary.architecture = std::string(metadata.architecture());
  summary.name = text_or_empty(metadata, "general.name");
  summary.file_bytes = model.file_bytes();
  summary.parts = model.parts.size();
  if (model.lone_part) {
    summary.part_number = model.lone_part->number + 1;
    summary.parts_in_all = model.lone_part->count;
  }
  add_tensors(summary, model.tensors);
  if (const auto type = metadata.integer("general.file_type")) {
    summary.file_type = file_type_name(*type);
  }
  add_shape(summary, metadata);
  add_tokenizer(summary, metadata);
  return summary;
}

}  // namespace yoke::gguf
