#include "cli/list.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <set>
#include <system_error>

#include <boost/json/array.hpp>
#include <fmt/format.h>

#include "base/json_text.h"
#include "base/units.h"
#include "cli/answer_view.h"
#include "cli/fit.h"
#include "cli/local_time.h"
#include "cli/model_view.h"
#include "cli/page.h"
#include "cli/table.h"
#include "models/entry.h"

namespace yoke::cli {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using models::CatalogueEntry;

// What its file says of it; of one that can't be read the path alone.
CatalogueEntry read_entry(const fs::path& path) {
  std::error_code error;
  auto read =
      fs::is_directory(path, error) ? models::huggingface_entry(path) : models::gguf_entry(path);
  CatalogueEntry entry;
  if (read) {
    entry = std::move(*read);
  } else {
    entry.path = path;
    entry.files.push_back({.path = path, .bytes = 0, .sha256 = {}});
  }
  for (models::ModelFile& file : entry.files) file.linked = true;
  return entry;
}

// Of a model of the configuration, which names a file or an entry.
CatalogueEntry entry_of(const config::ModelConfig& model, models::Catalogue& catalogue) {
  if (model.catalogue_name.empty()) return read_entry(model.options.model_path);
  return catalogue.find(model.catalogue_name).value_or(CatalogueEntry());
}

Result<std::vector<ListedModel>> collect(const config::Config& config,
                                         models::Catalogue& catalogue) {
  YOKE_TRY(std::vector<CatalogueEntry> entries, catalogue.entries());
  std::vector<ListedModel> listed;
  std::set<std::string> names;
  for (CatalogueEntry& entry : entries) {
    names.insert(entry.name);
    listed.push_back({.entry = std::move(entry)});
  }
  for (const config::ModelConfig& model : config.models) {
    if (names.contains(model.name)) continue;
    listed.push_back({.entry = entry_of(model, catalogue), .configured = true});
    listed.back().entry.name = model.name;
    listed.back().entry.source = config.file.filename().string();
  }
  const FitText fits = listed.empty() ? FitText{} : fits_here(config.engines);
  for (ListedModel& model : listed) {
    model.missing = missing_files(model.entry);
    if (fits && model.missing.empty()) model.fits = fits(model.entry);
  }
  return listed;
}

std::string date_of(std::chrono::system_clock::time_point time) {
  const auto ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
  constexpr std::size_t kDate = 10;  // "2026-11-22"
  return ms > 0 ? local_time(ms).substr(0, kDate) : "";
}

std::string count_or_nothing(std::uint64_t count) {
  return count > 0 ? fmt::format("{}", count) : "";
}

std::vector<std::string> cells_of(const ListedModel& model) {
  const CatalogueEntry& entry = model.entry;
  return {one_line(entry.name),
          entry.bytes() > 0 ? format_bytes(entry.bytes()) : "",
          one_line(entry.quantization),
          entry.parameters > 0 ? format_count(entry.parameters) : "",
          count_or_nothing(entry.context_length),
          one_line(model.fits),
          date_of(entry.added),
          one_line(entry.source)};
}

std::string missing_text(const std::vector<fs::path>& missing) {
  const std::string first = short_path(missing.front());
  if (missing.size() == 1) return first + " is missing.";
  return fmt::format("{} and {} more of its files are missing.", first, missing.size() - 1);
}

json::object pull_json(const models::CutPull& cut) {
  return {{"source", utf8_json(cut.pull.source)}, {"done", cut.done}, {"total", cut.total}};
}

std::string text_of(const std::vector<ListedModel>& models, const std::vector<models::CutPull>& cut,
                    const fs::path& model_dir) {
  if (!models.empty()) return format_models(models, Terminal::of(stdout)) + format_cut_pulls(cut);
  if (!cut.empty()) return format_cut_pulls(cut);
  return fmt::format(
      "There is no model in {} yet. `yoke pull` gets one; `yoke import` links those that other "
      "programs have.\n",
      short_path(model_dir));
}

}  // namespace

std::string format_cut_pulls(const std::vector<models::CutPull>& cut) {
  std::string text;
  for (const models::CutPull& pull : cut) {
    const std::string source = one_line(pull.pull.source);
    const std::string total =
        pull.total > 0 ? fmt::format(" of {}", format_bytes(pull.total)) : std::string();
    text += fmt::format(
        "{} is not complete, {}{} are there: `yoke pull {}` goes on, `yoke rm {}` "
        "removes them.\n",
        source, format_bytes(pull.done), total, source, source);
  }
  return text;
}

std::string format_models(const std::vector<ListedModel>& models, const Terminal& terminal) {
  using enum Table::Align;
  Table table({{"NAME"},
               {"SIZE", kRight},
               {"QUANT"},
               {"PARAMETERS", kRight},
               {"CONTEXT", kRight},
               {"FITS"},
               {"ADDED"},
               {"SOURCE"}});
  for (const ListedModel& model : models) {
    table.add_row(cells_of(model));
    if (!model.missing.empty()) table.add_note(missing_text(model.missing));
  }
  return table.render(terminal);
}

json::object to_json(const ListedModel& model) {
  json::object object = entry_json(model.entry);
  object["configured"] = model.configured;
  object["missing"] = !model.missing.empty();
  object["fits"] = model.fits.empty() ? json::value(nullptr) : json::value(utf8_json(model.fits));
  return object;
}

Result<void> list_models(const ListOptions& options) {
  YOKE_TRY(const config::Config config, config_of(options.place));
  YOKE_TRY(const auto catalogue,
           models::Catalogue::open(config.server.model_dir, models::Catalogue::Use::kRead));
  YOKE_TRY(const std::vector<ListedModel> models, collect(config, *catalogue));
  YOKE_TRY(const std::vector<models::CutPull> cut, models::cut_pulls(*catalogue));
  std::string text;
  if (options.json) {
    json::array array;
    json::array pulls;
    for (const ListedModel& model : models) array.push_back(to_json(model));
    for (const models::CutPull& pull : cut) pulls.push_back(pull_json(pull));
    text = pretty_json_text(json::object{{"model_dir", utf8_json(config.server.model_dir.native())},
                                         {"models", std::move(array)},
                                         {"cut_pulls", std::move(pulls)}}) +
           "\n";
  } else {
    text = text_of(models, cut, config.server.model_dir);
  }
  std::fwrite(text.data(), 1, text.size(), stdout);
  return flush_stdout();
}

}  // namespace yoke::cli
