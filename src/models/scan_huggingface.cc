#include <algorithm>
#include <fstream>
#include <optional>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include "models/entry.h"
#include "models/stores.h"

namespace yoke::models {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kModels = "models--";
constexpr std::size_t kMostRepositories = 10'000;

// "org/repo" for "models--org--repo".
std::string repository_of(const fs::path& dir) {
  std::string name = dir.filename().string().substr(kModels.size());
  const std::size_t between = name.find("--");
  if (between == std::string::npos) return name;
  return fmt::format("{}/{}", name.substr(0, between), name.substr(between + 2));
}

std::vector<fs::path> directories_in(const fs::path& dir, std::string_view start) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator at(dir, error);
       !error && at != fs::directory_iterator() && found.size() < kMostRepositories;
       at.increment(error)) {
    std::error_code broken;
    if (at->path().filename().native().starts_with(start) && at->is_directory(broken)) {
      found.push_back(at->path());
    }
  }
  std::ranges::sort(found);
  return found;
}

// The commit of the main branch if it is there, else the newest one.
std::optional<fs::path> snapshot_of(const fs::path& repository) {
  const fs::path snapshots = repository / "snapshots";
  std::string commit;
  std::ifstream(repository / "refs/main") >> commit;
  std::error_code error;
  if (is_hexadecimal(commit, 40) && fs::is_directory(snapshots / commit, error)) {
    return snapshots / commit;
  }
  std::vector<fs::path> all = directories_in(snapshots, "");
  if (all.empty()) return std::nullopt;
  return *std::ranges::max_element(all, {}, [](const fs::path& path) {
    std::error_code unknown;
    return fs::last_write_time(path, unknown);
  });
}

// Files of the hub's large-file storage lie in blobs under their SHA-256, smaller ones under a
// Git hash.
void add_sums(CatalogueEntry& entry) {
  for (ModelFile& file : entry.files) {
    std::error_code error;
    const std::string blob = fs::read_symlink(file.path, error).filename().string();
    if (!error && is_hexadecimal(blob, 64)) file.sha256 = blob;
  }
}

void scan_repository(const fs::path& dir, Found& found) {
  const auto snapshot = snapshot_of(dir);
  if (!snapshot) return;
  const std::string repository = repository_of(dir);
  const auto label = [&](CatalogueEntry& entry) {
    const bool gguf = entry.format == "gguf";
    entry.name = repository;
    entry.source = "hf-cache:" + repository;
    entry.revision = snapshot->filename().string();
    if (gguf && !entry.quantization.empty())
      entry.name = fmt::format("{}:{}", entry.name, entry.quantization);
    const fs::path below =
        entry.path.lexically_relative(fs::absolute(*snapshot).lexically_normal());
    if (!gguf && below != ".")
      entry.name = fmt::format("{}/{}", entry.name, below.generic_string());
    add_sums(entry);
  };
  scan_tree(*snapshot, label, found);
}

}  // namespace

bool is_huggingface_cache(const fs::path& dir) { return !directories_in(dir, kModels).empty(); }

void scan_huggingface_cache(const fs::path& dir, Found& found) {
  for (const fs::path& repository : directories_in(dir, kModels)) {
    scan_repository(repository, found);
  }
}

}  // namespace yoke::models
