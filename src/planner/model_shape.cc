#include "planner/model_shape.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "gguf/summary.h"
#include "planner/architecture.h"

namespace yoke::planner {
namespace {

constexpr std::uint64_t kMostLayers = 512;                       // LLAMA_MAX_LAYERS
constexpr std::uint64_t kMostElements = std::uint64_t{1} << 24;  // Of one token, in one layer.
constexpr std::uint64_t kMostTokens = std::uint64_t{1} << 24;

// The numbers that llama_model_base::load_hparams reads.
class Header {
 public:
  explicit Header(const gguf::Metadata& metadata) : metadata_(metadata) {}

  std::uint64_t get(std::string_view key, std::uint64_t otherwise = 0) const {
    return metadata_.integer(metadata_.of_architecture(key)).value_or(otherwise);
  }
  std::vector<std::uint64_t> per_layer(std::string_view key, std::uint64_t layers,
                                       const std::vector<std::uint64_t>& otherwise) const {
    return metadata_.per_layer(metadata_.of_architecture(key), layers).value_or(otherwise);
  }
  const gguf::Metadata& metadata() const { return metadata_; }

 private:
  const gguf::Metadata& metadata_;
};

Error unplannable(std::string message, std::string hint = {}) {
  return Error{kModelUnplannable, std::move(message), std::move(hint)};
}

Result<void> check_kind(const gguf::Model& model) {
  const gguf::Summary summary = gguf::summarize(model);
  const std::string& name = model.parts.empty() ? summary.name : model.parts.front().name;
  if (summary.kind == gguf::ModelKind::kPart) {
    return fail(unplannable(fmt::format("{} is part {} of the {} of a model, not all of it.", name,
                                        summary.part_number, summary.parts_in_all),
                            "Name the first part."));
  }
  if (summary.kind != gguf::ModelKind::kModel) {
    return fail(unplannable(fmt::format("{} is no model but {} {}, which goes with one.", name,
                                        summary.kind == gguf::ModelKind::kAdapter ? "an" : "a",
                                        gguf::kind_name(summary.kind)),
                            "Name the model."));
  }
  return {};
}

// "blk.12.attn_q.weight" is layer 12 and "attn_q.weight".
struct LayerTensor {
  std::uint64_t layer = 0;
  std::string_view part;
};

std::optional<LayerTensor> layer_of(std::string_view name) {
  constexpr std::string_view kPrefix = "blk.";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const char* const end = name.data() + name.size();
  LayerTensor found;
  const auto [after, error] = std::from_chars(name.data() + kPrefix.size(), end, found.layer);
  if (error != std::errc() || after == end || *after != '.') return std::nullopt;
  found.part = name.substr(static_cast<std::size_t>(after + 1 - name.data()));
  return found;
}

// As LLM_TENSOR_INFOS sorts them into input and output.
bool is_input(std::string_view name) {
  return name.starts_with("token_") || name.starts_with("position_embd") ||
         name.starts_with("per_layer_");
}

bool is_recurrent_part(std::string_view part) {
  return part.starts_with("ssm_") || part.starts_with("shortconv.") ||
         part.starts_with("time_mix_");
}

// ggml_repack_get_optimal_repack_type: what x86 processors with AVX2, and AVX-512 for Q2_K, store
// in an order of their own. Other processors repack fewer or more types.
bool is_repacked(const gguf::Tensor& tensor) {
  constexpr std::array<std::uint32_t, 4> kTypes{2, 10, 12, 20};  // Q4_0, Q2_K, Q4_K, IQ4_NL
  return tensor.dims[1] % 8 == 0 && std::ranges::find(kTypes, tensor.type) != kTypes.end();
}

struct Tensors {
  std::vector<LayerKind> kinds;  // By layer.
  std::vector<bool> recurrent;   // By layer.
};

Result<Tensors> add_tensors(ModelShape& shape, const gguf::Model& model, std::uint64_t used) {
  Tensors seen;
  seen.recurrent.resize(shape.layers.size());
  seen.kinds.resize(shape.layers.size());
  for (const gguf::Tensor& tensor : model.tensors) {
    if (const auto found = layer_of(tensor.name)) {
      if (found->layer >= shape.layers.size()) {
        return fail(unplannable(
            fmt::format("The model has a tensor of layer {}, but says that it has {} layers.",
                        found->layer, shape.layers.size())));
      }
      if (found->layer >= used) continue;
      LayerShape& layer = shape.layers[found->layer];
      layer.weight_bytes += tensor.bytes;
      if (found->part.find("_exps.") != std::string_view::npos) layer.expert_bytes += tensor.bytes;
      if (is_recurrent_part(found->part)) seen.recurrent[found->layer] = true;
      if (const Part part = part_of(found->part); part != Part::kCount) {
        seen.kinds[found->layer][part] = {tensor.dims[0], tensor.dims[1], tensor.dims[2],
                                          tensor.bytes};
      }
    } else if (is_input(tensor.name)) {
      shape.input_bytes += tensor.bytes;
      if (tensor.name == "token_embd.weight") {
        shape.traits.token_embedding_bytes = tensor.bytes;
        shape.repacks_tied = is_repacked(tensor);
      }
      if (tensor.name == "position_embd.weight") {
        shape.traits.position_embedding_bytes = tensor.bytes;
      }
    } else {
      shape.output_bytes += tensor.bytes;
      if (tensor.name == "output.weight") shape.traits.output_matrix_bytes = tensor.bytes;
    }
  }
  return seen;
}

// llama_hparams::n_embd_r and n_embd_s: the last columns of the convolution, and the state.
std::uint64_t state_elements(const Header& header, std::uint64_t heads) {
  const std::uint64_t embedding = header.get("embedding_length");
  if (const std::uint64_t size = header.get("wkv.head_size"); size != 0) {
    return header.get("token_shift_count", 2) * embedding + embedding * size;
  }
  if (const std::uint64_t cache = header.get("shortconv.l_cache"); cache != 0) {
    return embedding * (cache - 1);
  }
  const std::uint64_t kernel = header.get("ssm.conv_kernel");
  if (const std::uint64_t size = header.get("kda.head_dim"); size != 0) {
    return 3 * (kernel > 0 ? kernel - 1 : 3) * heads * size + size * size * heads;
  }
  const std::uint64_t inner = header.get("ssm.inner_size");
  const std::uint64_t state = header.get("ssm.state_size");
  const std::uint64_t columns = inner + 2 * header.get("ssm.group_count") * state;
  return (kernel > 0 ? kernel - 1 : 0) * columns + state * inner;
}

// Which layers look through a window: llama_model_base::load_swa_pattern.
std::vector<bool> sliding_layers(const Header& header, const Architecture& architecture,
                                 std::uint64_t layers) {
  std::vector<bool> sliding(layers);
  constexpr std::string_view kPattern = "attention.sliding_window_pattern";
  const auto& metadata = header.metadata();
  if (metadata.array(metadata.of_architecture(kPattern)) != nullptr) {
    const auto pattern = header.per_layer(kPattern, layers, {});
    for (std::uint64_t i = 0; i < pattern.size(); ++i) sliding[i] = pattern[i] != 0;
    return sliding;
  }
  const std::uint64_t period = header.get(kPattern, architecture.window_period);
  for (std::uint64_t i = 0; i < layers; ++i) {
    const std::uint64_t full = architecture.full_first || period == 0 ? 0 : period - 1;
    sliding[i] = period == 0 || i % period != full;
  }
  return sliding;
}

struct Heads {
  std::vector<std::uint64_t> all;
  std::vector<std::uint64_t> kv;
};

void add_attention(LayerShape& layer, LayerKind& kind, const Header& header) {
  const std::uint64_t heads = kind.heads;
  const std::uint64_t kv_heads = kind.kv_heads;
  const bool sliding = layer.memory == LayerMemory::kSliding;
  const std::uint64_t length = heads > 0 ? header.get("embedding_length") / heads : 0;
  const std::uint64_t key = header.get("attention.key_length", length);
  const std::uint64_t value = header.get("attention.value_length", length);
  const bool latent = header.get("attention.key_length_mla") != 0;
  layer.heads = heads;
  kind.attends = true;
  kind.slides = sliding;
  kind.key_length = sliding ? header.get("attention.key_length_swa", key) : key;
  kind.value_length = sliding ? header.get("attention.value_length_swa", value) : value;
  layer.key_elements = kv_heads * kind.key_length;
  layer.value_elements = latent ? 0 : kv_heads * kind.value_length;
}

void add_memory(ModelShape& shape, const Header& header, const Architecture& architecture,
                Tensors& tensors, std::uint64_t used) {
  const std::uint64_t count = shape.layers.size();
  const auto heads =
      header.per_layer("attention.head_count", count, std::vector<std::uint64_t>(count, 0));
  const auto kv_heads = header.per_layer("attention.head_count_kv", count, heads);
  const auto experts_used =
      header.per_layer("expert_used_count", count, std::vector<std::uint64_t>(count, 0));
  shape.window = architecture.window == Window::kNone
                     ? 0
                     : header.get("attention.sliding_window", architecture.default_window);
  const auto sliding =
      shape.window == 0 ? std::vector<bool>(count) : sliding_layers(header, architecture, used);
  const std::uint64_t shared = header.get("attention.shared_kv_layers");
  const std::uint64_t with_keys = architecture.layers_with_keys != 0
                                      ? architecture.layers_with_keys
                                      : count - std::min(shared, count);
  for (std::uint64_t i = 0; i < used; ++i) {
    LayerShape& layer = shape.layers[i];
    LayerKind& kind = tensors.kinds[i];
    kind.heads = heads[i];
    kind.kv_heads = kv_heads[i];
    kind.experts_used = experts_used[i];
    if (tensors.recurrent[i]) {
      layer.memory = LayerMemory::kRecurrent;
      kind.keeps_state = true;
      layer.state_bytes = 4 * state_elements(header, heads[i]);
      if (!architecture.state_beside_keys) continue;
    }
    if (kv_heads[i] == 0 || heads[i] == 0) continue;
    const bool slides = architecture.window == Window::kAttended ? shape.window != 0 : sliding[i];
    layer.memory = slides ? LayerMemory::kSliding : LayerMemory::kAttention;
    add_attention(layer, kind, header);
    kind.keeps_keys = architecture.cached && i < with_keys;
    if (kind.keeps_keys) continue;
    layer.memory = LayerMemory::kNone;
    layer.key_elements = layer.value_elements = 0;
  }
}

LayerKind without_bytes(LayerKind kind) {
  for (PartShape& part : kind.parts) part.bytes = 0;
  return kind;
}

// Layers that compute alike get one kind.
void add_kinds(ModelShape& shape, const std::vector<LayerKind>& by_layer) {
  std::vector<std::uint32_t> alike;
  std::vector<LayerKind> bare;
  for (std::size_t i = 0; i < by_layer.size(); ++i) {
    const auto found = std::ranges::find(shape.kinds, by_layer[i]);
    const auto index = static_cast<std::uint32_t>(found - shape.kinds.begin());
    if (found == shape.kinds.end()) {
      shape.kinds.push_back(by_layer[i]);
      bare.push_back(without_bytes(by_layer[i]));
      const auto first = std::ranges::find(bare, bare.back());
      alike.push_back(static_cast<std::uint32_t>(first - bare.begin()));
    }
    shape.layers[i].kind = index;
    shape.layers[i].alike = alike[index];
  }
}

void add_traits(ModelShape& shape, const Header& header, const Architecture& architecture) {
  ModelTraits& traits = shape.traits;
  const auto& metadata = header.metadata();
  const auto number = [&](std::string_view key) {
    return metadata.number(metadata.of_architecture(key)).value_or(0);
  };
  traits.latent_key_length = header.get("attention.key_length_mla");
  traits.latent_value_length = header.get("attention.value_length_mla");
  traits.latent = traits.latent_key_length != 0;
  traits.latent_rank = header.get("attention.kv_lora_rank");
  traits.rotated = header.get("rope.dimension_count");
  traits.convolution = std::max(header.get("ssm.conv_kernel"), header.get("shortconv.l_cache"));
  traits.state_inner = header.get("ssm.inner_size");
  traits.state_size = header.get("ssm.state_size");
  traits.state_groups = header.get("ssm.group_count");
  traits.state_heads = header.get("ssm.time_step_rank");
  traits.output_rows = architecture.cached ? shape.vocabulary : 0;
  traits.layer_norm = metadata.find(metadata.of_architecture("attention.layer_norm_epsilon")) &&
                      !metadata.find(metadata.of_architecture("attention.layer_norm_rms_epsilon"));
  traits.layer_norm = traits.layer_norm || !architecture.cached;
  traits.windowed = std::ranges::any_of(shape.kinds, &LayerKind::slides);
  traits.scaled_input = shape.architecture.starts_with("gemma");
  traits.capped_logits = number("final_logit_softcapping") != 0 || shape.architecture == "gemma2";
  traits.capped_attention = shape.architecture == "gemma2";
  const bool gpt_oss = shape.architecture == "gpt-oss";
  traits.normalized_experts = metadata.boolean(metadata.of_architecture("expert_weights_norm"))
                                  .value_or(shape.architecture != "deepseek2" && !gpt_oss);
  const double scale = number("expert_weights_scale");
  traits.scaled_experts = scale != 0 && scale != 1;
  traits.expert_groups = header.get("expert_group_count");
  traits.expert_groups_used = header.get("expert_group_used_count");
  traits.sigmoid_experts = header.get("expert_gating_func") == 2;
  traits.biased_choice = gpt_oss;
  traits.late_output = gpt_oss;
  traits.residual_first = shape.architecture.starts_with("lfm2");
  traits.bert = !architecture.cached;
  traits.cached = architecture.cached;
}

bool is_sane(const LayerShape& layer) {
  return layer.key_elements <= kMostElements && layer.value_elements <= kMostElements &&
         layer.heads <= kMostElements && layer.state_bytes <= kMostElements * kMostElements;
}

bool is_sane(const LayerKind& kind) {
  constexpr std::uint64_t kMostExperts = 1024;  // LLAMA_MAX_EXPERTS
  return kind.experts_used <= kMostExperts && kind.kv_heads <= kMostElements &&
         kind.key_length <= kMostElements && kind.value_length <= kMostElements &&
         (!kind.attends || (kind.key_length > 0 && kind.value_length > 0));
}

// Each expert that a token goes to adds steps to the graph.
bool is_small(const ModelShape& shape) {
  constexpr std::uint64_t kMostChoices = std::uint64_t{1} << 13;
  std::uint64_t choices = 0;
  for (const LayerShape& layer : shape.layers) choices += shape.kinds[layer.kind].experts_used;
  return choices <= kMostChoices;
}

bool is_sane(const ModelTraits& traits) {
  const std::array numbers{
      traits.latent_rank, traits.latent_key_length, traits.latent_value_length, traits.rotated,
      traits.convolution, traits.state_inner,       traits.state_size,          traits.state_groups,
      traits.state_heads, traits.expert_groups,     traits.expert_groups_used};
  return std::ranges::all_of(numbers, [](std::uint64_t number) { return number <= kMostElements; });
}

// What follows multiplies these: none may be so large that a product does not fit.
Result<void> check_sizes(const ModelShape& shape) {
  const auto sane = [](const auto& part) { return is_sane(part); };
  if (shape.embedding_length <= kMostElements && shape.window <= kMostTokens &&
      shape.vocabulary <= kMostTokens && is_sane(shape.traits) &&
      std::ranges::all_of(shape.layers, sane) && std::ranges::all_of(shape.kinds, sane) &&
      is_small(shape)) {
    return {};
  }
  return fail(unplannable("The model's header names sizes that no model has."));
}

}  // namespace

Result<ModelShape> shape_of(const gguf::Model& model) {
  YOKE_CHECK(check_kind(model));
  const Header header(model.metadata);
  ModelShape shape;
  shape.architecture = std::string(model.metadata.architecture());
  shape.embedding_length = header.get("embedding_length");
  shape.context_length = header.get("context_length");
  const std::uint64_t layers = header.get("block_count");
  if (layers == 0 || layers > kMostLayers || shape.embedding_length == 0) {
    return fail(unplannable(fmt::format(
        "The header of this {} model does not say how many layers it has and how wide they are.",
        shape.architecture)));
  }
  // Layers that guess the token after the next are not loaded for plain inference.
  const std::uint64_t used = layers - std::min(header.get("nextn_predict_layers"), layers);
  shape.layers.resize(layers);
  for (LayerShape& layer : shape.layers) layer.memory = LayerMemory::kNone;
  YOKE_TRY(Tensors tensors, add_tensors(shape, model, used));
  shape.vocabulary = gguf::summarize(model).vocabulary.value_or(0);
  const Architecture architecture = architecture_of(shape.architecture);
  if (shape.traits.output_matrix_bytes == 0 && architecture.cached) {
    shape.tied_bytes = shape.traits.token_embedding_bytes;
    shape.traits.output_matrix_bytes = shape.tied_bytes;
    shape.output_bytes += shape.tied_bytes;
  }
  add_memory(shape, header, architecture, tensors, used);
  add_kinds(shape, tensors.kinds);
  add_traits(shape, header, architecture);
  YOKE_CHECK(check_sizes(shape));
  shape.measured = is_measured(shape.architecture);
  if (!shape.measured) {
    shape.notes.push_back(fmt::format(
        "How a {} model computes is taken from its tensors and was never compared with the engine: "
        "its compute buffers are estimated with a quarter added, or half for recurrent layers.",
        shape.architecture));
  }
  return shape;
}

}  // namespace yoke::planner
