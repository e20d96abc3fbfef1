#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <sys/stat.h>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "gguf/model.h"
#include "gguf/summary.h"
#include "models/entry.h"
#include "models/stores.h"

namespace yoke::models {
namespace {

namespace fs = std::filesystem;

constexpr int kMostLevels = 12;
constexpr std::size_t kMostNames = 200'000;

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

bool is_gguf_name(const fs::path& name) { return lower(name.extension().string()) == ".gguf"; }

struct Level {
  fs::path dir;
  int depth = 0;
};

// Visits each directory once, however links lead to it.
class Tree {
 public:
  Tree(const Label& label, Found& found) : label_(label), found_(found) {}

  void scan(const fs::path& root) {
    to_do_.push_back({root, 0});
    while (!to_do_.empty()) {
      const Level level = std::move(to_do_.back());
      to_do_.pop_back();
      if (is_new(level.dir)) visit(level);
    }
  }

 private:
  // By device and inode; of files too, as one may have several names.
  bool is_new(const fs::path& path) {
    struct stat info{};
    if (::stat(path.c_str(), &info) != 0) return false;
    return seen_.emplace(info.st_dev, info.st_ino).second;
  }

  void skip(const fs::path& path, std::string why) { found_.skipped.push_back({path, why}); }
  void visit(const Level& level);
  void take_file(const fs::path& path);
  void take_directory(const fs::path& dir);
  void take_models(const fs::path& dir);

  const Label& label_;
  Found& found_;
  std::vector<Level> to_do_;
  std::set<std::pair<std::uint64_t, std::uint64_t>> seen_;
  std::size_t names_ = 0;

  // Of the directory at work.
  struct Weights {
    CatalogueEntry entry;
    std::string title;  // What its header calls it.
    std::uint64_t width = 0;
  };
  struct Projector {
    ModelFile file;
    std::optional<std::uint64_t> width;  // Of what it hands to the model.
  };
  std::vector<Weights> weights_;
  std::vector<Projector> projectors_;
  const Projector* projector_for(const Weights& weights) const;
};

void Tree::visit(const Level& level) {
  std::vector<fs::path> files;
  std::vector<fs::path> dirs;
  std::error_code error;
  for (fs::directory_iterator at(level.dir, error); !error && at != fs::directory_iterator();
       at.increment(error)) {
    if (++names_ > kMostNames) {
      if (names_ == kMostNames + 1)
        skip(level.dir, "There are too many files to look at them all.");
      break;
    }
    std::error_code broken;
    const fs::path& path = at->path();
    const bool hidden = path.filename().native().starts_with('.');
    if (at->is_directory(broken)) {
      if (!hidden) dirs.push_back(path);
    } else if (is_gguf_name(path)) {
      files.push_back(path);
    }
  }
  if (error) skip(level.dir, fmt::format("It can't be read: {}.", error.message()));
  std::ranges::sort(files);
  std::ranges::sort(dirs, std::greater<>());  // The first is taken last from the end.
  for (const fs::path& file : files) take_file(file);
  take_models(level.dir);
  if (level.depth < kMostLevels) {
    for (fs::path& dir : dirs) to_do_.push_back({std::move(dir), level.depth + 1});
  } else if (!dirs.empty()) {
    skip(level.dir, "What is below it lies too deep to be looked at.");
  }
  take_directory(level.dir);
}

void Tree::take_file(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return skip(path, "It is a link to a file that is not there.");
  const auto split = gguf::parse_split_name(path.filename().native());
  if (split && split->number > 1) {
    // The first part speaks for all.
    if (!fs::exists(path.parent_path() / split->of(1), error)) {
      skip(path, "It is a part of a model whose first part is not there.");
    }
    return;
  }
  if (!is_new(path)) return;
  const auto model = gguf::open_model(path);
  if (!model) return skip(path, model.error().message);
  const gguf::Summary summary = gguf::summarize(*model);
  if (summary.kind == gguf::ModelKind::kProjector) {
    CatalogueEntry entry = gguf_entry(path, *model, summary);
    Projector projector{.file = std::move(entry.files.front()), .width = {}};
    projector.file.role = FileRole::kProjector;
    projector.width = model->metadata.integer("clip.vision.projection_dim");
    projectors_.push_back(std::move(projector));
    return;
  }
  if (summary.kind == gguf::ModelKind::kAdapter) {
    return skip(path, "It is a LoRA adapter: name it as `lora` of a model in the configuration.");
  }
  if (summary.kind == gguf::ModelKind::kPart || summary.tensors == 0) {
    return skip(path, "It is no model by itself.");
  }
  weights_.push_back(
      {gguf_entry(path, *model, summary), summary.name, summary.embedding_length.value_or(0)});
}

// How much of the front of both names is the same.
std::size_t likeness(const fs::path& model, const fs::path& projector) {
  const std::string a = lower(model_stem(model));
  std::string b = lower(model_stem(projector));
  for (const std::string_view word : {"mmproj-", "mmproj_", "mmproj."}) {
    if (b.starts_with(word)) b.erase(0, word.size());
  }
  return static_cast<std::size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

// Where one model has the directory to itself, in however many quantizations, all projectors there
// are for it; where several lie together, the names have to say so.
const Tree::Projector* Tree::projector_for(const Weights& weights) const {
  constexpr std::size_t kAlike = 6;
  const bool alone = std::ranges::all_of(
      weights_, [&](const Weights& other) { return other.title == weights.title; });
  const Projector* best = nullptr;
  std::size_t best_likeness = 0;
  for (const Projector& projector : projectors_) {
    if (projector.width && weights.width != 0 && *projector.width != weights.width) continue;
    const std::size_t alike = likeness(weights.entry.path, projector.file.path);
    if (!alone && alike < kAlike) continue;
    if (best == nullptr || alike > best_likeness) {
      best = &projector;
      best_likeness = alike;
    }
  }
  return best;
}

void Tree::take_models(const fs::path& dir) {
  std::set<fs::path> used;
  for (Weights& weights : weights_) {
    if (const Projector* projector = projector_for(weights)) {
      weights.entry.files.push_back(projector->file);
      used.insert(projector->file.path);
    }
  }
  for (const Projector& projector : projectors_) {
    if (used.contains(projector.file.path)) continue;
    skip(dir / projector.file.path.filename(), "It is a projector, and its model is not with it.");
  }
  for (Weights& weights : weights_) {
    label_(weights.entry);
    add_model(std::move(weights.entry), found_);
  }
  weights_.clear();
  projectors_.clear();
}

void Tree::take_directory(const fs::path& dir) {
  if (!is_huggingface_model(dir)) return;
  auto entry = huggingface_entry(dir);
  if (!entry) return skip(dir, entry.error().message);
  label_(*entry);
  add_model(std::move(*entry), found_);
}

}  // namespace

void scan_tree(const fs::path& dir, const Label& label, Found& found) {
  Tree(label, found).scan(dir);
}

}  // namespace yoke::models
