#include "models/choice.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <optional>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/units.h"
#include "gguf/model.h"
#include "models/entry.h"
#include "models/pull.h"

namespace yoke::models {
namespace {

// What is taken when nothing is asked for: a good size for its quality first.
constexpr std::array<std::string_view, 11> kUsual{"Q4_K_M", "UD-Q4_K_XL", "Q4_K_S",    "IQ4_XS",
                                                  "IQ4_NL", "Q4_0",       "MXFP4_MOE", "MXFP4",
                                                  "Q5_K_M", "Q6_K",       "Q8_0"};
constexpr std::size_t kMostListed = 40;

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

bool same_text(std::string_view a, std::string_view b) { return lower(a) == lower(b); }

std::string_view name_of_path(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

std::string_view directory_of(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}

bool is_gguf(std::string_view path) { return lower(path).ends_with(".gguf"); }

bool is_projector(std::string_view path) {
  return lower(name_of_path(path)).find("mmproj") != std::string::npos;
}

// Goes with a model, by the names that llama.cpp's own tools give.
bool is_companion(std::string_view path) {
  const std::string name = lower(name_of_path(path));
  if (is_projector(path) || name.find("imatrix") != std::string::npos) return true;
  constexpr std::array<std::string_view, 4> kDrafts{"mtp-", "eagle3-", "dflash-", "dspark-"};
  return std::ranges::any_of(kDrafts,
                             [&](std::string_view draft) { return name.starts_with(draft); });
}

// A model's files: one, or all parts.
struct Set {
  std::string key;           // The path without ".gguf" and the number of the part.
  std::string quantization;  // By its name or its directory's; may be empty.
  std::uint32_t parts = 1;
  std::map<std::uint32_t, HubFile> files;  // By number.
};

std::string quantization_of(const std::string& key) {
  const std::string_view path = key;
  std::string found = quantization_in(name_of_path(path));
  if (found.empty()) found = quantization_in(name_of_path(directory_of(path)));
  return found;
}

std::vector<Set> sets_of(const std::vector<HubFile>& files) {
  std::map<std::string, Set> sets;
  for (const HubFile& file : files) {
    if (!is_gguf(file.path) || is_companion(file.path)) continue;
    const std::string name(name_of_path(file.path));
    const auto split = gguf::parse_split_name(name);
    const std::string stem = split ? split->prefix : name.substr(0, name.size() - 5);
    const std::string_view directory = directory_of(file.path);
    const std::string key = directory.empty() ? stem : fmt::format("{}/{}", directory, stem);
    // The same stem in one file and in parts is two models.
    const std::uint32_t parts = split ? split->count : 1;
    Set& set = sets[fmt::format("{}\n{}", key, parts)];
    set.key = key;
    set.parts = parts;
    set.quantization = quantization_of(key);
    set.files.emplace(split ? split->number : 1, file);
  }
  std::vector<Set> all;
  for (auto& [key, set] : sets) all.push_back(std::move(set));
  return all;
}

std::string list_of(const std::vector<Set>& sets) {
  std::vector<std::string> names;
  std::set<std::string> seen;
  for (const Set& set : sets) {
    const bool unique = std::ranges::count(sets, set.quantization, &Set::quantization) == 1;
    const std::string name =
        !set.quantization.empty() && unique ? set.quantization : set.files.begin()->second.path;
    if (seen.insert(name).second) names.push_back(name);
  }
  const std::size_t more = names.size() - std::min(names.size(), kMostListed);
  names.resize(names.size() - more);
  const std::string rest = more == 0 ? "" : fmt::format(" and {} more", more);
  return fmt::format("{}{}", fmt::join(names, ", "), rest);
}

// Whether `word` stands in `path` as a word of its own.
bool has_word(std::string_view path, std::string_view word) {
  const std::string in = lower(path);
  const std::string what = lower(word);
  const auto is_inner = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
  };
  for (std::size_t at = in.find(what); at != std::string::npos; at = in.find(what, at + 1)) {
    const bool begins = at == 0 || !is_inner(in[at - 1]);
    const std::size_t end = at + what.size();
    if (begins && (end == in.size() || !is_inner(in[end]))) return true;
  }
  return false;
}

using Matches = std::vector<const Set*>;

template <class Test>
Matches matching(const std::vector<Set>& sets, Test test) {
  Matches found;
  for (const Set& set : sets) {
    if (test(set)) found.push_back(&set);
  }
  return found;
}

Matches find_file(const std::vector<Set>& sets, std::string_view choice) {
  return matching(sets, [&](const Set& set) {
    return std::ranges::any_of(set.files, [&](const auto& part) {
      return part.second.path == choice || same_text(name_of_path(part.second.path), choice);
    });
  });
}

// The closest meaning that fits any.
Matches find_quantization(const std::vector<Set>& sets, std::string_view choice) {
  Matches found =
      matching(sets, [&](const Set& set) { return same_text(set.quantization, choice); });
  if (found.empty()) {
    const std::string end = fmt::format("-{}", lower(choice));
    found = matching(sets, [&](const Set& set) { return lower(set.quantization).ends_with(end); });
  }
  if (found.empty()) {
    found = matching(sets, [&](const Set& set) { return has_word(set.key, choice); });
  }
  return found;
}

Matches find_usual(const std::vector<Set>& sets) {
  for (const std::string_view usual : kUsual) {
    Matches found =
        matching(sets, [&](const Set& set) { return same_text(set.quantization, usual); });
    if (!found.empty()) return found;
  }
  return {&sets.front()};
}

Result<const Set*> find_set(const std::vector<Set>& sets, std::string_view choice,
                            std::string_view repository) {
  Matches found = choice.empty() ? find_usual(sets) : find_file(sets, choice);
  if (found.empty()) found = find_quantization(sets, choice);
  if (found.empty()) {
    return fail(kHubNotFound, fmt::format("hf:{} has no '{}'.", repository, choice),
                fmt::format("It has {}.", list_of(sets)));
  }
  if (found.size() > 1) {
    std::vector<Set> alike;
    for (const Set* set : found) alike.push_back(*set);
    return fail(kHubNotFound,
                fmt::format("hf:{} has {} models that '{}' could mean.", repository, found.size(),
                            choice.empty() ? found.front()->quantization : std::string(choice)),
                fmt::format("Name a file behind ':': {}.", list_of(alike)));
  }
  return found.front();
}

// Nearest in the tree first, then the form that projectors lose least in.
std::optional<HubFile> find_projector(const std::vector<HubFile>& files, const Set& set) {
  const std::string home(directory_of(set.key));
  const auto rank = [&](const HubFile& file) {
    const std::string_view directory = directory_of(file.path);
    const std::string name = lower(name_of_path(file.path));
    const int form = has_word(name, "f16") ? 0 : has_word(name, "bf16") ? 1 : 2;
    return std::tuple(home.size() - directory.size(), form, file.path);
  };
  std::optional<HubFile> best;
  for (const HubFile& file : files) {
    const std::string directory(directory_of(file.path));
    const bool above = directory.empty() || home == directory || home.starts_with(directory + "/");
    if (!is_gguf(file.path) || !is_projector(file.path) || !above) continue;
    if (!best || rank(file) < rank(*best)) best = file;
  }
  return best;
}

Result<Choice> choose_gguf(const std::vector<HubFile>& files, std::string_view choice,
                           bool projector, std::string_view repository) {
  const std::vector<Set> sets = sets_of(files);
  if (sets.empty()) {
    return fail(kHubNotFound,
                fmt::format("hf:{} has GGUF files, but none is a model by itself.", repository),
                "Name the repository of the model they go with.");
  }
  YOKE_TRY(const Set* set, find_set(sets, choice, repository));
  if (set->files.size() != set->parts) {
    return fail(kHubNotFound,
                fmt::format("hf:{} has only {} of the {} parts of {}.", repository,
                            set->files.size(), set->parts, set->key),
                "Choose another; its owner may still be uploading it.");
  }
  Choice chosen{"gguf", std::string(name_of_path(set->key)), {}};
  for (const auto& [number, file] : set->files) chosen.files.push_back({file, FileRole::kWeights});
  const auto found = projector ? find_projector(files, *set) : std::nullopt;
  if (found) chosen.files.push_back({*found, FileRole::kProjector});
  return chosen;
}

bool is_safetensors(const HubFile& file) { return file.path.ends_with(".safetensors"); }

// Of a HuggingFace model: the files that engines and their tokenizers read. Python code is not
// among them: it would run.
std::optional<FileRole> huggingface_role(std::string_view path) {
  const std::string_view directory = directory_of(path);
  const std::string_view name = name_of_path(path);
  // "1_Pooling": the further modules of an embedding model.
  const bool module = directory.size() > 2 && std::isdigit(directory.front()) != 0 &&
                      directory[1] == '_' && directory.find('/') == std::string_view::npos;
  if (!directory.empty() && !module) return std::nullopt;
  if (name.ends_with(".safetensors")) return FileRole::kWeights;
  constexpr std::array<std::string_view, 7> kTokenizer{
      "tokenizer", "vocab", "merges", "special_tokens", "added_tokens", "chat_template", "tekken"};
  const bool known = std::ranges::any_of(
      kTokenizer, [&](std::string_view start) { return name.starts_with(start); });
  constexpr std::array<std::string_view, 5> kEndings{".json", ".txt", ".model", ".jinja",
                                                     ".tiktoken"};
  const bool read = std::ranges::any_of(
      kEndings, [&](std::string_view ending) { return name.ends_with(ending); });
  if (!read || name.starts_with('.')) return std::nullopt;
  const bool words = name.ends_with(".model") || name.ends_with(".tiktoken");
  if (known || words) return FileRole::kTokenizer;
  if (name.ends_with(".json")) return FileRole::kOther;
  return std::nullopt;
}

Result<Choice> choose_huggingface(const std::vector<HubFile>& files, std::string_view choice,
                                  std::string_view repository) {
  if (!choice.empty()) {
    return fail(
        kHubNotFound,
        fmt::format("hf:{} has no GGUF files that '{}' could choose from.", repository, choice),
        fmt::format("Leave it out to get all of it for vLLM, or name a repository with "
                    "GGUF files; most are called {}-GGUF.",
                    name_of_path(repository)));
  }
  Choice chosen{"huggingface", std::string(name_of_path(repository)), {}};
  // Mistral's repositories have the weights twice, the second time in its own form.
  const auto is_own_form = [](std::string_view path) { return path.starts_with("consolidated"); };
  const bool twice = std::ranges::any_of(files, [&](const HubFile& file) {
    return is_safetensors(file) && directory_of(file.path).empty() && !is_own_form(file.path);
  });
  bool config = false;
  for (const HubFile& file : files) {
    const auto role = huggingface_role(file.path);
    if (!role || (twice && is_own_form(file.path))) continue;
    config = config || file.path == "config.json";
    chosen.files.push_back({file, *role});
  }
  if (config) return chosen;
  return fail(kHubNotFound, fmt::format("hf:{} has weights, but no config.json.", repository),
              "It is an adapter or a part of something else: name the model's own repository.");
}

}  // namespace

Result<Choice> choose(const std::vector<HubFile>& files, std::string_view choice, bool projector,
                      std::string_view repository) {
  if (std::ranges::any_of(files, [](const HubFile& file) { return is_gguf(file.path); })) {
    return choose_gguf(files, choice, projector, repository);
  }
  if (std::ranges::any_of(files, is_safetensors)) {
    return choose_huggingface(files, choice, repository);
  }
  return fail(kHubNotFound,
              fmt::format("hf:{} has neither GGUF nor safetensors files.", repository),
              "Name another repository; most with GGUF files end in -GGUF.");
}

}  // namespace yoke::models
