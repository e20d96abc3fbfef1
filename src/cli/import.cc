#include "cli/import.h"

#include <cstdio>
#include <filesystem>
#include <vector>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <fmt/format.h>

#include "base/json_text.h"
#include "base/paths.h"
#include "base/units.h"
#include "cli/answer_view.h"
#include "cli/list.h"
#include "cli/page.h"
#include "cli/terminal.h"
#include "models/import.h"
#include "models/removal.h"

namespace yoke::cli {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using models::Found;
using models::Linked;

// What came of one directory.
struct Outcome {
  fs::path dir;
  Found found;
  std::vector<Linked> linked;  // As `found.models`; with --dry-run what it would be.
};

std::string counted(std::size_t count, std::string_view what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

std::string describe(const Linked& model, bool dry_run) {
  const models::CatalogueEntry& entry = model.entry;
  std::string text = fmt::format("  {}  {}", one_line(entry.name), format_bytes(entry.bytes()));
  if (!entry.quantization.empty()) text += "  " + one_line(entry.quantization);
  if (!model.added) return text + "  (was there)\n";
  return text + (dry_run ? "\n" : "  (new)\n");
}

std::string describe(const Outcome& outcome, bool dry_run) {
  const Found& found = outcome.found;
  std::string text =
      fmt::format("{}: {}, {}\n", short_path(outcome.dir), found.kind,
                  found.models.empty() ? "no model" : counted(found.models.size(), "model"));
  for (const Linked& model : outcome.linked) text += describe(model, dry_run);
  for (const models::Skipped& skipped : found.skipped) {
    text += fmt::format("  Skipped {}: {}\n", short_path(skipped.path), one_line(skipped.why));
  }
  return text;
}

json::object to_json(const Outcome& outcome) {
  json::array found;
  for (const Linked& linked : outcome.linked) {
    json::object entry = to_json(ListedModel{.entry = linked.entry});
    entry["added"] = linked.added;
    found.push_back(std::move(entry));
  }
  json::array skipped;
  for (const models::Skipped& one : outcome.found.skipped) {
    skipped.push_back(
        json::object{{"path", utf8_json(one.path.native())}, {"why", utf8_json(one.why)}});
  }
  return {{"directory", utf8_json(outcome.dir.native())},
          {"kind", outcome.found.kind},
          {"models", std::move(found)},
          {"skipped", std::move(skipped)}};
}

Result<std::vector<fs::path>> directories(const ImportOptions& options) {
  if (!options.dir.empty()) return std::vector<fs::path>{expand_home(options.dir)};
  return models::known_stores();
}

Result<void> link_all(std::vector<Outcome>& outcomes, const fs::path& model_dir) {
  YOKE_TRY(const auto catalogue,
           models::Catalogue::open(model_dir, models::Catalogue::Use::kChange));
  for (const std::string& note : catalogue->notes()) std::fprintf(stderr, "%s\n", note.c_str());
  for (Outcome& outcome : outcomes) {
    YOKE_TRY(outcome.linked, models::link(*catalogue, outcome.found.models));
  }
  return {};
}

// What --dry-run shows: which of them the catalogue does not have.
Result<void> compare_all(std::vector<Outcome>& outcomes, const fs::path& model_dir) {
  YOKE_TRY(const auto catalogue, models::Catalogue::open(model_dir, models::Catalogue::Use::kRead));
  for (Outcome& outcome : outcomes) {
    YOKE_TRY(outcome.linked, models::preview(*catalogue, outcome.found.models));
  }
  return {};
}

std::string summary_of(const std::vector<Outcome>& outcomes, bool dry_run) {
  std::size_t added = 0;
  std::size_t known = 0;
  for (const Outcome& outcome : outcomes) {
    for (const Linked& model : outcome.linked) ++(model.added ? added : known);
  }
  if (added + known == 0) return "There was no model to import.\n";
  std::string text = counted(added, "new model");
  if (known > 0) text += fmt::format(", {} known already", known);
  return text + (dry_run ? "; nothing was changed.\n"
                         : ". The files stay where they are; `yoke list` shows all models.\n");
}

}  // namespace

Result<void> import_models(const ImportOptions& options) {
  YOKE_TRY(const config::Config config, config_of(options.place));
  YOKE_TRY(const std::vector<fs::path> dirs, directories(options));
  std::vector<Outcome> outcomes;
  bool any = false;
  for (const fs::path& dir : dirs) {
    YOKE_TRY(Found found, models::scan(dir));
    any = any || !found.models.empty();
    outcomes.push_back({.dir = dir, .found = std::move(found), .linked = {}});
  }
  const fs::path& model_dir = config.server.model_dir;
  const bool change = any && !options.dry_run;
  YOKE_CHECK(change ? link_all(outcomes, model_dir) : compare_all(outcomes, model_dir));

  std::string text;
  if (options.json) {
    json::array places;
    for (const Outcome& outcome : outcomes) places.push_back(to_json(outcome));
    text = pretty_json_text(
               json::object{{"dry_run", options.dry_run}, {"places", std::move(places)}}) +
           "\n";
  } else {
    for (const Outcome& outcome : outcomes) text += describe(outcome, options.dry_run);
    if (outcomes.empty()) {
      text =
          "There is no store of Ollama, LM Studio, llama.cpp or HuggingFace's libraries here. "
          "`yoke import DIR` looks into another directory.\n";
    } else {
      text += summary_of(outcomes, options.dry_run);
    }
  }
  std::fwrite(text.data(), 1, text.size(), stdout);
  return flush_stdout();
}

}  // namespace yoke::cli
