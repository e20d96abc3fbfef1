#include "cli/rm.h"

#include <cstdio>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/units.h"
#include "cli/answer_view.h"
#include "cli/confirm.h"
#include "cli/page.h"
#include "models/catalogue.h"
#include "models/removal.h"

namespace yoke::cli {
namespace {

namespace fs = std::filesystem;
using models::Catalogue;
using models::CatalogueEntry;
using models::Removal;

// By its whole name only: a guess could remove another model than the one that was meant.
Result<CatalogueEntry> find_exactly(Catalogue& catalogue, const std::string& name) {
  YOKE_TRY(CatalogueEntry entry, catalogue.find(name));
  if (entry.name == name) return entry;
  return fail(models::kModelUnknown, fmt::format("There is no model '{}'.", name),
              fmt::format("Did you mean {}?", entry.name));
}

Result<std::vector<CatalogueEntry>> find_all(Catalogue& catalogue,
                                             const std::vector<std::string>& names) {
  std::vector<CatalogueEntry> found;
  std::set<std::string> seen;
  for (const std::string& name : names) {
    YOKE_TRY(CatalogueEntry entry, find_exactly(catalogue, name));
    if (seen.insert(name).second) found.push_back(std::move(entry));
  }
  return found;
}

std::string what_goes(const CatalogueEntry& entry, const Removal& removal) {
  const std::string name = one_line(entry.name);
  if (!removal.files.empty()) {
    return fmt::format("{} and {} file{} of it, {}", name, removal.files.size(),
                       removal.files.size() == 1 ? "" : "s", format_bytes(removal.bytes));
  }
  return fmt::format("{} from the list; its files stay where they are", name);
}

void add_kept(std::string& text, const std::vector<fs::path>& files, std::string_view why) {
  for (const fs::path& file : files) {
    text += fmt::format("  {} stays: {}\n", short_path(file), why);
  }
}

std::string describe(const CatalogueEntry& entry, const Removal& removal) {
  std::string text = fmt::format("Removed {}.", one_line(entry.name));
  if (removal.files.empty()) {
    text += " Its files were not touched.\n";
  } else {
    text += fmt::format(" {} freed.\n", format_bytes(removal.bytes));
  }
  add_kept(text, removal.linked, "another program or you put it there.");
  add_kept(text, removal.shared, "another model uses it.");
  add_kept(text, removal.outside, "it is not in the directory of models.");
  return text;
}

Result<void> ask(const std::vector<CatalogueEntry>& entries, Catalogue& catalogue,
                 const fs::path& model_dir) {
  YOKE_TRY(const std::vector<CatalogueEntry> all, catalogue.entries());
  std::vector<std::string> parts;
  for (const CatalogueEntry& entry : entries) {
    parts.push_back(what_goes(entry, models::removal_of(entry, all, model_dir)));
  }
  YOKE_TRY(const bool yes, confirm(fmt::format("Remove {}?", fmt::join(parts, "; "))));
  if (yes) return {};
  return fail(kCancelled, "Nothing was removed.");
}

}  // namespace

Result<void> remove_models(const RmOptions& options) {
  YOKE_TRY(const config::Config config, config_of(options.place));
  const fs::path& model_dir = config.server.model_dir;
  {
    // Others may go on while the user thinks.
    YOKE_TRY(const auto catalogue, Catalogue::open(model_dir, Catalogue::Use::kRead));
    YOKE_TRY(const std::vector<CatalogueEntry> entries, find_all(*catalogue, options.names));
    if (!options.yes) YOKE_CHECK(ask(entries, *catalogue, model_dir));
  }
  YOKE_TRY(const auto catalogue, Catalogue::open(model_dir, Catalogue::Use::kChange));
  YOKE_CHECK(models::sweep(*catalogue, model_dir));
  YOKE_TRY(const std::vector<CatalogueEntry> entries, find_all(*catalogue, options.names));
  for (const CatalogueEntry& entry : entries) {
    YOKE_TRY(const Removal removal, models::remove_model(*catalogue, entry, model_dir));
    const std::string text = describe(entry, removal);
    std::fwrite(text.data(), 1, text.size(), stdout);
  }
  return flush_stdout();
}

}  // namespace yoke::cli
