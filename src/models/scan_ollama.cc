#include <algorithm>
#include <fstream>
#include <optional>
#include <string_view>
#include <system_error>
#include <vector>

#include <boost/json/value.hpp>
#include <fmt/format.h>

#include "base/json_fields.h"
#include "models/entry.h"
#include "models/stores.h"

namespace yoke::models {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostManifestBytes = 1u << 20;
constexpr std::size_t kMostManifests = 10'000;
constexpr std::string_view kLayerType = "application/vnd.ollama.image.";

struct Layer {
  std::string type;    // "model", "projector", "adapter", "template", ...
  std::string sha256;  // Hexadecimal.
  std::uint64_t bytes = 0;
};

Result<std::vector<Layer>> read_manifest(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::string text(kMostManifestBytes, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(std::max<std::streamsize>(in.gcount(), 0)));
  YOKE_TRY(const boost::json::value json, parse_json(text));
  YOKE_TRY(const JsonFields manifest, JsonFields::of(json));
  YOKE_TRY(const std::vector<JsonFields> items, manifest.objects("layers"));
  std::vector<Layer> layers;
  for (const JsonFields& item : items) {
    YOKE_TRY(std::string type, item.string("mediaType"));
    YOKE_TRY(std::string digest, item.string("digest"));
    constexpr std::string_view kAlgorithm = "sha256:";
    if (!type.starts_with(kLayerType)) continue;
    if (!digest.starts_with(kAlgorithm) || !is_hexadecimal(digest.substr(kAlgorithm.size()), 64)) {
      return fail(kInvalidJson, fmt::format("It has no SHA-256 for a layer, but '{}'.", digest));
    }
    const std::int64_t size = item.integer_or("size", 0);
    // "model", or "tensor; name=..."
    layers.push_back({type.substr(kLayerType.size(), type.find(';') - kLayerType.size()),
                      digest.substr(kAlgorithm.size()),
                      static_cast<std::uint64_t>(std::max<std::int64_t>(size, 0))});
  }
  return layers;
}

// "llama3.2:3b", "someone/model:tag", "hf.co/org/repo:Q4_K_M", as Ollama calls it.
std::string name_of(const fs::path& manifest, const fs::path& manifests) {
  std::string path = manifest.parent_path().lexically_relative(manifests).generic_string();
  for (const std::string_view usual : {"registry.ollama.ai/library/", "registry.ollama.ai/"}) {
    if (!path.starts_with(usual)) continue;
    path.erase(0, usual.size());
    break;
  }
  return path + ":" + manifest.filename().string();
}

// By the name that it has since 0.1.25, or the one before.
Result<fs::path> blob_of(const fs::path& store, const Layer& layer) {
  for (const char* const start : {"sha256-", "sha256:"}) {
    fs::path blob = store / "blobs" / (start + layer.sha256);
    std::error_code error;
    const std::uintmax_t size = fs::file_size(blob, error);
    if (error) continue;
    if (layer.bytes == 0 || size == layer.bytes) return blob;
    return fail(kNoModel, fmt::format("{} has {} bytes; {} were expected.", blob.string(), size,
                                      layer.bytes));
  }
  return fail(kNoModel, "Its weights are not there.");
}

Result<CatalogueEntry> read_model(const fs::path& store, const std::vector<Layer>& layers) {
  const auto count = [&](std::string_view type) {
    return std::ranges::count(layers, type, &Layer::type);
  };
  if (count("adapter") > 0) {
    return fail(kNoModel, "It is a model with a LoRA adapter, which has to be configured.");
  }
  if (count("tensor") > 0) {
    return fail(kNoModel, "Its weights lie in single tensors, which only Ollama loads.");
  }
  if (count("model") != 1) return fail(kNoModel, "It has no weights of its own on this machine.");
  const Layer& weights = *std::ranges::find(layers, "model", &Layer::type);
  YOKE_TRY(const fs::path blob, blob_of(store, weights));
  YOKE_TRY(CatalogueEntry entry, gguf_entry(blob));
  entry.files.front().sha256 = weights.sha256;
  for (const Layer& layer : layers) {
    if (layer.type != "projector") continue;
    YOKE_TRY(fs::path projector, blob_of(store, layer));
    entry.files.push_back({.path = fs::absolute(projector).lexically_normal(),
                           .bytes = layer.bytes,
                           .sha256 = layer.sha256,
                           .role = FileRole::kProjector});
  }
  return entry;
}

// In order, so that the same names come out of every scan.
std::vector<fs::path> manifests_below(const fs::path& dir) {
  std::vector<fs::path> files;
  constexpr int kDepth = 3;  // HOST/NAMESPACE/MODEL/TAG
  std::error_code error;
  for (fs::recursive_directory_iterator at(dir, error);
       !error && at != fs::recursive_directory_iterator() && files.size() < kMostManifests;
       at.increment(error)) {
    std::error_code broken;
    if (at.depth() == kDepth) {
      at.disable_recursion_pending();
      if (at->is_regular_file(broken)) files.push_back(at->path());
    }
  }
  std::ranges::sort(files);
  return files;
}

}  // namespace

bool is_ollama_store(const fs::path& dir) {
  std::error_code error;
  return fs::is_directory(dir / "manifests", error) && fs::is_directory(dir / "blobs", error);
}

void scan_ollama(const fs::path& dir, Found& found) {
  for (const fs::path& file : manifests_below(dir / "manifests")) {
    const auto layers = read_manifest(file);
    if (!layers) {
      found.skipped.push_back({file, "It is no manifest: " + layers.error().message});
      continue;
    }
    auto entry = read_model(dir, *layers);
    if (!entry) {
      found.skipped.push_back({file, entry.error().message});
      continue;
    }
    entry->name = name_of(file, dir / "manifests");
    entry->source = "ollama:" + entry->name;
    add_model(std::move(*entry), found);
  }
}

}  // namespace yoke::models
