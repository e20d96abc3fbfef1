#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <optional>
#include <set>
#include <system_error>
#include <vector>

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <fmt/format.h>

#include "base/json_fields.h"
#include "models/entry.h"

namespace yoke::models {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr std::size_t kMostConfigBytes = 8u << 20;
constexpr std::uint64_t kMostHeaderBytes = 16u << 20;  // Real ones are far below.
constexpr std::size_t kMostFiles = 2000;
constexpr std::int64_t kMostPositions = 1'000'000'000;
constexpr std::string_view kIndexName = "model.safetensors.index.json";

// Empty if it can't be read or is larger.
std::string read_front(const fs::path& file, std::uint64_t offset, std::size_t most) {
  std::ifstream in(file, std::ios::binary);
  in.seekg(static_cast<std::streamoff>(offset));
  std::string text(most, '\0');
  in.read(text.data(), static_cast<std::streamsize>(most));
  text.resize(static_cast<std::size_t>(std::max<std::streamsize>(in.gcount(), 0)));
  return text;
}

std::uint64_t size_of(const fs::path& file) {
  std::error_code error;
  const std::uintmax_t size = fs::file_size(file, error);
  return error ? 0 : size;
}

std::optional<json::object> read_object(const fs::path& file) {
  const std::uint64_t size = size_of(file);
  if (size == 0 || size > kMostConfigBytes) return std::nullopt;
  auto parsed = parse_json(read_front(file, 0, static_cast<std::size_t>(size)));
  if (!parsed || !parsed->is_object()) return std::nullopt;
  return std::move(parsed->as_object());
}

std::string string_in(const json::object& object, std::string_view name) {
  const json::value* const value = object.if_contains(name);
  const json::string* const text = value != nullptr ? value->if_string() : nullptr;
  return text != nullptr ? std::string(*text) : std::string();
}

std::uint64_t count_in(const json::object& object, std::string_view name) {
  const json::value* const value = object.if_contains(name);
  const std::int64_t* const number = value != nullptr ? value->if_int64() : nullptr;
  return number != nullptr && *number > 0 && *number <= kMostPositions
             ? static_cast<std::uint64_t>(*number)
             : 0;
}

const json::object* object_in(const json::object& object, std::string_view name) {
  const json::value* const value = object.if_contains(name);
  return value != nullptr ? value->if_object() : nullptr;
}

// Elements of all tensors that the header of a safetensors file names; 0 if it is none.
std::uint64_t elements_in(const fs::path& file) {
  const std::string length = read_front(file, 0, 8);
  std::uint64_t bytes = 0;
  if (length.size() != sizeof bytes) return 0;
  std::memcpy(&bytes, length.data(), sizeof bytes);
  if (bytes == 0 || bytes > kMostHeaderBytes || bytes > size_of(file)) return 0;
  const auto parsed = parse_json(read_front(file, sizeof bytes, static_cast<std::size_t>(bytes)));
  if (!parsed || !parsed->is_object()) return 0;
  std::uint64_t sum = 0;
  for (const auto& member : parsed->as_object()) {
    const json::object* const tensor = member.value().if_object();
    const json::value* const shape = tensor != nullptr ? tensor->if_contains("shape") : nullptr;
    if (shape == nullptr || !shape->is_array()) continue;
    std::uint64_t elements = 1;
    for (const json::value& dim : shape->as_array()) {
      const bool sane = dim.is_int64() && dim.as_int64() >= 0 && dim.as_int64() < (1LL << 32) &&
                        elements < (1ULL << 32);
      elements = sane ? elements * static_cast<std::uint64_t>(dim.as_int64()) : 0;
    }
    sum += std::min<std::uint64_t>(elements, 1ULL << 44);
  }
  return sum;
}

// What the names of tensors can't say: 4-bit weights lie packed, several to one element.
std::string quantization_of(const json::object& config) {
  if (const json::object* const quantization = object_in(config, "quantization_config")) {
    std::string method = string_in(*quantization, "quant_method");
    const std::uint64_t bits = count_in(*quantization, "bits");
    if (bits > 0 && bits < 64) method += fmt::format(" {}-bit", bits);
    if (!method.empty()) return method;
  }
  std::string type = string_in(config, "torch_dtype");
  if (type.empty()) type = string_in(config, "dtype");
  if (type == "bfloat16") return "BF16";
  if (type == "float16") return "F16";
  if (type == "float32") return "F32";
  return type;
}

FileRole role_of(const std::string& name) {
  if (name.ends_with(".safetensors")) return FileRole::kWeights;
  for (const std::string_view start : {"tokenizer", "vocab", "merges", "special_tokens",
                                       "added_tokens", "chat_template", "tekken"}) {
    if (name.starts_with(start)) return FileRole::kTokenizer;
  }
  return FileRole::kOther;
}

// The names in a directory that are files, links to some included, in order.
Result<std::vector<std::string>> files_in(const fs::path& dir) {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator at(dir, error); !error && at != fs::directory_iterator();
       at.increment(error)) {
    std::error_code unreadable;
    if (at->is_regular_file(unreadable)) names.push_back(at->path().filename().string());
    if (names.size() == kMostFiles) break;
  }
  if (error) return fail(kIo, fmt::format("{} can't be read: {}.", dir.string(), error.message()));
  std::ranges::sort(names);
  return names;
}

// What the index says that there should be, and is not.
std::vector<std::string> missing_weights(const fs::path& dir,
                                         const std::vector<std::string>& names) {
  std::set<std::string> missing;
  const auto index = read_object(dir / kIndexName);
  const json::object* const map = index ? object_in(*index, "weight_map") : nullptr;
  if (map == nullptr) return {};
  for (const auto& member : *map) {
    const json::string* const file = member.value().if_string();
    if (file == nullptr) continue;
    std::string name(*file);
    if (!std::ranges::binary_search(names, name)) missing.insert(std::move(name));
  }
  return {missing.begin(), missing.end()};
}

}  // namespace

bool is_huggingface_model(const fs::path& dir) {
  std::error_code error;
  if (!fs::is_regular_file(dir / "config.json", error)) return false;
  const auto names = files_in(dir);
  return names && std::ranges::any_of(*names, [](const std::string& name) {
           return name.ends_with(".safetensors");
         });
}

Result<CatalogueEntry> huggingface_entry(const fs::path& dir) {
  YOKE_TRY(const std::vector<std::string> names, files_in(dir));
  const auto config = read_object(dir / "config.json");
  if (!config) {
    return fail(kNoModel,
                fmt::format("{} has no readable config.json, which was expected.", dir.string()));
  }
  if (const auto missing = missing_weights(dir, names); !missing.empty()) {
    return fail(
        kNoModel,
        fmt::format("{} lacks {} of the files of its weights: {}{}.", dir.string(), missing.size(),
                    missing.front(), missing.size() > 1 ? " and others" : ""),
        "Get the rest of the model.");
  }
  CatalogueEntry entry;
  entry.format = "huggingface";
  entry.path = fs::absolute(dir).lexically_normal();
  if (!entry.path.has_filename()) entry.path = entry.path.parent_path();
  // A model that also sees has the language model's numbers in a part of its own.
  const json::object* const text = object_in(*config, "text_config");
  entry.architecture = string_in(*config, "model_type");
  entry.quantization = quantization_of(*config);
  entry.context_length = count_in(*config, "max_position_embeddings");
  if (entry.context_length == 0 && text != nullptr) {
    entry.context_length = count_in(*text, "max_position_embeddings");
  }
  const bool packed = config->contains("quantization_config");
  for (const std::string& name : names) {
    const fs::path file = entry.path / name;
    entry.files.push_back(
        {.path = file, .bytes = size_of(file), .sha256 = {}, .role = role_of(name)});
    if (!packed && name.ends_with(".safetensors")) entry.parameters += elements_in(file);
  }
  const bool weights = std::ranges::any_of(
      entry.files, [](const ModelFile& file) { return file.role == FileRole::kWeights; });
  if (weights) return entry;
  return fail(kNoModel, fmt::format("{} has no *.safetensors, which were expected.", dir.string()));
}

}  // namespace yoke::models
