#include "models/removal.h"

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <system_error>

#include <fmt/format.h>

namespace yoke::models {
namespace {

namespace fs = std::filesystem;

fs::path real(const fs::path& path) {
  std::error_code error;
  fs::path found = fs::weakly_canonical(path, error);
  return error ? path.lexically_normal() : found;
}

// Whether the name `path` is one below `dir`, wherever links on the way to it lead.
bool lies_below(const fs::path& path, const fs::path& dir) {
  const fs::path below = (real(path.parent_path()) / path.filename()).lexically_relative(real(dir));
  return path.has_filename() && !below.empty() && *below.begin() != ".." && below != ".";
}

std::uint64_t size_of(const fs::path& file) {
  std::error_code error;
  const std::uintmax_t size = fs::is_symlink(file, error) ? 0 : fs::file_size(file, error);
  return error ? 0 : size;
}

// "model.gguf.part" and what belongs to it.
std::vector<fs::path> partial_downloads(const fs::path& file) {
  const std::string start = file.filename().string() + ".part";
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator at(file.parent_path(), error);
       !error && at != fs::directory_iterator(); at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (name == start || name.starts_with(start + ".")) found.push_back(at->path());
  }
  std::ranges::sort(found);
  return found;
}

void remove_empty_directories(fs::path dir, const fs::path& model_dir) {
  std::error_code error;
  while (lies_below(dir, model_dir) && fs::is_directory(fs::symlink_status(dir, error)) &&
         fs::remove(dir, error)) {
    dir = dir.parent_path();
  }
}

}  // namespace

Removal removal_of(const CatalogueEntry& entry, const std::vector<CatalogueEntry>& all,
                   const fs::path& model_dir) {
  std::set<fs::path> others;
  for (const CatalogueEntry& other : all) {
    if (other.name == entry.name) continue;
    for (const ModelFile& file : other.files) others.insert(real(file.path));
  }
  Removal removal;
  for (const ModelFile& file : entry.files) {
    if (file.linked) {
      removal.linked.push_back(file.path);
    } else if (!lies_below(file.path, model_dir)) {
      removal.outside.push_back(file.path);
    } else if (others.contains(real(file.path))) {
      removal.shared.push_back(file.path);
    } else {
      removal.files.push_back(file.path);
      std::ranges::copy(partial_downloads(file.path), std::back_inserter(removal.files));
    }
  }
  for (const fs::path& file : removal.files) removal.bytes += size_of(file);
  return removal;
}

Result<Removal> remove_model(Catalogue& catalogue, const CatalogueEntry& entry,
                             const fs::path& model_dir) {
  YOKE_TRY(const std::vector<CatalogueEntry> all, catalogue.entries());
  Removal removal = removal_of(entry, all, model_dir);
  YOKE_CHECK(catalogue.remove(entry.name, removal.files));
  YOKE_CHECK(sweep(catalogue, model_dir));
  return removal;
}

Removal removal_of(const BegunPull& pull, const std::vector<CatalogueEntry>& all,
                   const fs::path& model_dir) {
  std::set<fs::path> others;
  for (const CatalogueEntry& other : all) {
    for (const ModelFile& file : other.files) others.insert(real(file.path));
  }
  Removal removal;
  for (const BegunPull::File& file : pull.files) {
    std::error_code error;
    if (!lies_below(file.path, model_dir)) continue;
    std::ranges::copy(partial_downloads(file.path), std::back_inserter(removal.files));
    if (!fs::exists(fs::symlink_status(file.path, error))) continue;
    (others.contains(real(file.path)) ? removal.shared : removal.files).push_back(file.path);
  }
  for (const fs::path& file : removal.files) removal.bytes += size_of(file);
  return removal;
}

Result<Removal> remove_pull(Catalogue& catalogue, const BegunPull& pull,
                            const fs::path& model_dir) {
  YOKE_TRY(const std::vector<CatalogueEntry> all, catalogue.entries());
  Removal removal = removal_of(pull, all, model_dir);
  YOKE_CHECK(catalogue.forget_pull(pull.source, removal.files));
  YOKE_CHECK(sweep(catalogue, model_dir));
  return removal;
}

Result<void> sweep(Catalogue& catalogue, const fs::path& model_dir) {
  YOKE_TRY(const std::vector<fs::path> files, catalogue.leftovers());
  if (files.empty()) return {};
  std::optional<Error> failed;
  for (const fs::path& file : files) {
    if (!lies_below(file, model_dir)) continue;
    std::error_code error;
    const bool directory = fs::is_directory(fs::symlink_status(file, error));
    if (!directory) fs::remove(file, error);
    if (error && !failed) {
      failed = Error{kIo, fmt::format("{} can't be removed: {}.", file.string(), error.message()),
                     fmt::format("Make {} writable; `yoke rm` then goes on with it.",
                                 file.parent_path().string())};
    }
    remove_empty_directories(file.parent_path(), model_dir);
  }
  if (failed) return fail(std::move(*failed));
  return catalogue.settle_leftovers();
}

}  // namespace yoke::models
