#include "models/import.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>
#include <system_error>

#include <fmt/format.h>

#include "base/paths.h"
#include "models/entry.h"
#include "models/stores.h"

namespace yoke::models {
namespace {

namespace fs = std::filesystem;

bool is_dir(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

// `name`, or with -2, -3, ... behind it, as long as `taken` says so.
template <class Taken>
std::string free_name(const std::string& name, const Taken& taken) {
  std::string free = name;
  for (int number = 2; taken(free); ++number) free = fmt::format("{}-{}", name, number);
  return free;
}

// Its last part behind the ones that say whose it is.
bool is_lm_studio(const fs::path& dir) {
  return std::ranges::any_of(dir, [](const fs::path& part) {
    return part == ".lmstudio" || part == "lm-studio" || part == "lmstudio";
  });
}

// PUBLISHER/REPOSITORY/file.gguf
void scan_lm_studio(const fs::path& dir, Found& found) {
  const auto label = [&](CatalogueEntry& entry) {
    const fs::path below = entry.path.lexically_relative(dir);
    const auto parts = std::distance(below.begin(), below.end());
    entry.name = model_stem(entry.path);
    if (parts >= 2) entry.name = below.begin()->string() + "/" + std::next(below.begin())->string();
    entry.source = "lmstudio:" + entry.name;
    if (parts >= 3 && !entry.quantization.empty()) entry.name += ":" + entry.quantization;
  };
  scan_tree(dir, label, found);
}

void scan_files(const fs::path& dir, Found& found) {
  const auto label = [](CatalogueEntry& entry) {
    entry.name = entry.format == "gguf" ? model_stem(entry.path) : entry.path.filename().string();
    entry.source = "file:" + entry.path.string();
  };
  scan_tree(dir, label, found);
}

fs::path real(const fs::path& path) {
  std::error_code error;
  fs::path found = fs::canonical(path, error);
  return error ? path : found;
}

bool is_downloaded(const CatalogueEntry& entry) {
  return std::ranges::any_of(entry.files, [](const ModelFile& file) { return !file.linked; });
}

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : "";
}

}  // namespace

bool is_hexadecimal(std::string_view text, std::size_t length) {
  return text.size() == length &&
         text.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
}

void add_model(CatalogueEntry entry, Found& found) {
  const auto taken = [&](const std::string& name) {
    return std::ranges::find(found.models, name, &CatalogueEntry::name) != found.models.end();
  };
  for (ModelFile& file : entry.files) file.linked = true;
  entry.name = free_name(entry_name(entry.name), taken);
  found.models.push_back(std::move(entry));
}

Result<Found> scan(const fs::path& given) {
  if (!is_dir(given)) {
    return fail(kInvalidArgument, fmt::format("{} is no directory.", given.string()),
                "Name one that holds models.");
  }
  std::error_code error;
  fs::path dir = fs::absolute(given, error).lexically_normal();
  if (!dir.has_filename()) dir = dir.parent_path();
  for (const char* const below : {"", "models", "hub"}) {
    const fs::path store = *below == '\0' ? dir : dir / below;
    Found found;
    if (is_ollama_store(store)) {
      found.kind = "Ollama's store";
      scan_ollama(store, found);
      return found;
    }
    if (is_huggingface_cache(store)) {
      found.kind = "a HuggingFace cache";
      scan_huggingface_cache(store, found);
      return found;
    }
  }
  Found found;
  if (is_lm_studio(dir)) {
    found.kind = "LM Studio's store";
    scan_lm_studio(is_dir(dir / "models") ? dir / "models" : dir, found);
  } else {
    found.kind = "GGUF files";
    scan_files(dir, found);
  }
  return found;
}

std::vector<fs::path> known_stores() {
  const fs::path home = expand_home("~");
  const std::string cache_home = variable("XDG_CACHE_HOME");
  const fs::path cache = cache_home.starts_with('/') ? fs::path(cache_home) : home / ".cache";
  const std::string hub_home = variable("HF_HOME");
  std::vector<fs::path> places{variable("OLLAMA_MODELS"),
                               home / ".ollama/models",
                               "/usr/share/ollama/.ollama/models",
                               "/var/lib/ollama/.ollama/models",
                               home / ".lmstudio/models",
                               home / ".cache/lm-studio/models",
                               variable("HF_HUB_CACHE"),
                               hub_home.empty() ? fs::path() : fs::path(hub_home) / "hub",
                               cache / "huggingface/hub",
                               variable("LLAMA_CACHE"),
                               cache / "llama.cpp"};
  std::vector<fs::path> stores;
  std::set<fs::path> seen;
  for (const fs::path& place : places) {
    if (!place.empty() && is_dir(place) && seen.insert(real(place)).second) {
      stores.push_back(place);
    }
  }
  return stores;
}

Result<std::vector<Linked>> preview(Catalogue& catalogue,
                                    const std::vector<CatalogueEntry>& found) {
  YOKE_TRY(const std::vector<CatalogueEntry> known, catalogue.entries());
  std::set<std::string> names;
  std::map<fs::path, CatalogueEntry> by_path;
  for (const CatalogueEntry& entry : known) {
    names.insert(entry.name);
    by_path.emplace(real(entry.path), entry);
  }
  const auto taken = [&](const std::string& name) { return names.contains(name); };
  const auto now = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
  std::vector<Linked> linked;
  for (CatalogueEntry entry : found) {
    const auto same = by_path.find(real(entry.path));
    if (same == by_path.end()) {
      entry.name = free_name(entry.name, taken);
      entry.added = now;
      names.insert(entry.name);
      by_path.emplace(real(entry.path), entry);
      linked.push_back({.entry = std::move(entry), .added = true, .changed = true});
      continue;
    }
    entry.name = same->second.name;
    entry.added = same->second.added;
    const bool changed = !is_downloaded(same->second) && entry != same->second;
    linked.push_back({.entry = changed ? std::move(entry) : same->second, .changed = changed});
  }
  return linked;
}

Result<std::vector<Linked>> link(Catalogue& catalogue, const std::vector<CatalogueEntry>& found) {
  YOKE_TRY(std::vector<Linked> linked, preview(catalogue, found));
  for (const Linked& model : linked) {
    if (!model.changed) continue;
    YOKE_CHECK(catalogue.put(model.entry));
  }
  return linked;
}

}  // namespace yoke::models
