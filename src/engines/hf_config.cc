#include "engines/hf_config.h"

#include <fstream>
#include <optional>
#include <string_view>

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include "base/json_fields.h"

namespace yoke::engines {
namespace {

namespace json = boost::json;
namespace fs = std::filesystem;

constexpr std::size_t kMaxBytes = 8u << 20;
// Larger numbers are mistakes: they keep the products below from overflowing.
constexpr std::int64_t kMaxCount = 1 << 24;
constexpr std::int64_t kMaxLayers = 10'000;
constexpr std::int64_t kMaxHeads = 10'000;

std::optional<json::value> read_json(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return std::nullopt;
  std::string text(kMaxBytes, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  auto parsed = parse_json(text);
  if (!parsed) return std::nullopt;
  return std::move(*parsed);
}

// A positive integer field up to `limit`; 0 for anything else.
std::int64_t count(const json::object& object, std::string_view name,
                   std::int64_t limit = kMaxCount) {
  const json::value* value = object.if_contains(name);
  const std::int64_t* number = value != nullptr ? value->if_int64() : nullptr;
  return number != nullptr && *number > 0 && *number <= limit ? *number : 0;
}

const json::object* object_in(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value != nullptr ? value->if_object() : nullptr;
}

// RoPE scaling makes the context longer than the config's number, each kind in its own way.
bool has_scaled_positions(const json::object& text) {
  if (object_in(text, "rope_scaling") != nullptr) return true;
  const json::object* rope = object_in(text, "rope_parameters");
  return rope != nullptr && rope->contains("factor");
}

std::uint64_t kv_bytes_per_token(const json::object& text) {
  const std::int64_t layers = count(text, "num_hidden_layers", kMaxLayers);
  const std::int64_t heads = count(text, "num_attention_heads", kMaxHeads);
  std::int64_t kv_heads = count(text, "num_key_value_heads", kMaxHeads);
  if (kv_heads == 0) kv_heads = heads;
  std::int64_t head_size = count(text, "head_dim", kMaxHeads);
  if (head_size == 0 && heads > 0) head_size = count(text, "hidden_size") / heads;
  constexpr std::int64_t kKeyAndValue = 2;
  constexpr std::int64_t kBytes = 2;
  return static_cast<std::uint64_t>(layers * kv_heads * kKeyAndValue * kBytes) *
         static_cast<std::uint64_t>(head_size);
}

}  // namespace

HfConfig read_hf_config(const fs::path& model) {
  const auto document = read_json(model / "config.json");
  const json::object* top = document ? document->if_object() : nullptr;
  if (top == nullptr) return {};
  // Of a multimodal model the part that writes.
  const json::object* nested = object_in(*top, "text_config");
  const json::object& text = nested != nullptr ? *nested : *top;
  HfConfig config;
  if (!has_scaled_positions(text)) {
    config.max_positions = static_cast<int>(count(text, "max_position_embeddings"));
  }
  config.kv_bytes_per_token = kv_bytes_per_token(text);
  if (const json::object* quantization = object_in(*top, "quantization_config")) {
    const json::value* method = quantization->if_contains("quant_method");
    if (method != nullptr && method->is_string()) {
      config.quantization = std::string(method->get_string());
    }
  }
  return config;
}

int lora_rank(const fs::path& adapter) {
  const auto document = read_json(adapter / "adapter_config.json");
  const json::object* top = document ? document->if_object() : nullptr;
  return top != nullptr ? static_cast<int>(count(*top, "r", kMaxHeads)) : 0;
}

}  // namespace yoke::engines
