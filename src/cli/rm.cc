#include "cli/rm.h"

#include <algorithm>
#include <cstdio>
#include <optional>
#include <set>
#include <variant>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/units.h"
#include "cli/answer_view.h"
#include "cli/confirm.h"
#include "cli/page.h"
#include "models/catalogue.h"
#include "models/reference.h"
#include "models/removal.h"

namespace yoke::cli {
namespace {

namespace fs = std::filesystem;
using models::BegunPull;
using models::Catalogue;
using models::CatalogueEntry;
using models::Removal;

// What is removed: a model, or a pull that was cut.
struct Target {
  std::string name;
  std::variant<CatalogueEntry, BegunPull> what;
};

Removal removal_of(const Target& target, const std::vector<CatalogueEntry>& all,
                   const fs::path& model_dir) {
  return std::visit([&](const auto& what) { return models::removal_of(what, all, model_dir); },
                    target.what);
}

Result<Removal> remove(const Target& target, Catalogue& catalogue, const fs::path& model_dir) {
  if (const auto* const pull = std::get_if<BegunPull>(&target.what)) {
    return models::remove_pull(catalogue, *pull, model_dir);
  }
  return models::remove_model(catalogue, std::get<CatalogueEntry>(target.what), model_dir);
}

// As `yoke list` shows it, or as `yoke pull` was told it.
Result<std::optional<BegunPull>> find_pull(Catalogue& catalogue, const std::string& name) {
  std::string source = name;
  if (models::is_reference(name)) {
    if (const auto reference = models::parse_reference(name)) source = to_text(*reference);
  }
  YOKE_TRY(std::vector<BegunPull> begun, catalogue.begun_pulls());
  const auto found = std::ranges::find(begun, source, &BegunPull::source);
  if (found == begun.end()) return std::nullopt;
  return std::move(*found);
}

// By its whole name only: a guess could remove another model than the one that was meant.
Result<Target> find_exactly(Catalogue& catalogue, const std::string& name) {
  Result<CatalogueEntry> entry = catalogue.find(name);
  if (entry && entry->name == name) return Target{name, std::move(*entry)};
  YOKE_TRY(std::optional<BegunPull> pull, find_pull(catalogue, name));
  if (pull) return Target{pull->source, std::move(*pull)};
  if (!entry) return fail(std::move(entry.error()));
  return fail(models::kModelUnknown, fmt::format("There is no model '{}'.", name),
              fmt::format("Did you mean {}?", entry->name));
}

Result<std::vector<Target>> find_all(Catalogue& catalogue, const std::vector<std::string>& names) {
  std::vector<Target> found;
  std::set<std::string> seen;
  for (const std::string& name : names) {
    YOKE_TRY(Target target, find_exactly(catalogue, name));
    if (seen.insert(target.name).second) found.push_back(std::move(target));
  }
  return found;
}

std::string what_goes(const Target& target, const Removal& removal) {
  const std::string name = one_line(target.name);
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

std::string describe(const Target& target, const Removal& removal) {
  std::string text = fmt::format("Removed {}.", one_line(target.name));
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

Result<void> ask(const std::vector<Target>& targets, Catalogue& catalogue,
                 const fs::path& model_dir) {
  YOKE_TRY(const std::vector<CatalogueEntry> all, catalogue.entries());
  std::vector<std::string> parts;
  for (const Target& target : targets) {
    parts.push_back(what_goes(target, removal_of(target, all, model_dir)));
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
    YOKE_TRY(const std::vector<Target> targets, find_all(*catalogue, options.names));
    if (!options.yes) YOKE_CHECK(ask(targets, *catalogue, model_dir));
  }
  YOKE_TRY(const auto catalogue, Catalogue::open(model_dir, Catalogue::Use::kChange));
  YOKE_CHECK(models::sweep(*catalogue, model_dir));
  YOKE_TRY(const std::vector<Target> targets, find_all(*catalogue, options.names));
  for (const Target& target : targets) {
    YOKE_TRY(const Removal removal, remove(target, *catalogue, model_dir));
    const std::string text = describe(target, removal);
    std::fwrite(text.data(), 1, text.size(), stdout);
  }
  return flush_stdout();
}

}  // namespace yoke::cli
