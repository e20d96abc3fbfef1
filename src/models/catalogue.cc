#include "models/catalogue.h"

#include <algorithm>
#include <array>
#include <limits>
#include <system_error>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/nearest.h"
#include "base/unique_fd.h"
#include "store/database.h"
#include "store/schema.h"
#include "store/state_lock.h"

namespace yoke::models {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using store::Database;
using store::Statement;
using store::Transaction;
using Time = std::chrono::system_clock::time_point;

constexpr std::size_t kMaxNameLength = 128;
constexpr std::string_view kListHint = "`yoke list` shows those that there are.";
constexpr std::string_view kElsewhere = "name another directory with --models or in model_dir";

// `position`: the order of an entry's files. `leftover`: what is still to be removed from the disk.
// `pulled_file`: of pulls that have begun and have no entry.
constexpr std::array kMigrations{
    R"sql(
      PRAGMA application_id = 0x596f6b4d;
      CREATE TABLE model (
        name TEXT NOT NULL PRIMARY KEY, source TEXT NOT NULL, revision TEXT NOT NULL,
        format TEXT NOT NULL, path TEXT NOT NULL, architecture TEXT NOT NULL,
        quantization TEXT NOT NULL, parameters INTEGER NOT NULL, context_length INTEGER NOT NULL,
        added_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
      CREATE TABLE file (
        model TEXT NOT NULL REFERENCES model ON DELETE CASCADE, position INTEGER NOT NULL,
        path TEXT NOT NULL, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL, role TEXT NOT NULL,
        linked INTEGER NOT NULL,
        PRIMARY KEY (model, position)) STRICT, WITHOUT ROWID;
      CREATE TABLE leftover (path TEXT NOT NULL PRIMARY KEY) STRICT, WITHOUT ROWID;
      PRAGMA user_version = 1;
    )sql",
    R"sql(
      CREATE TABLE pulled_file (
        source TEXT NOT NULL, position INTEGER NOT NULL, path TEXT NOT NULL, bytes INTEGER NOT NULL,
        PRIMARY KEY (source, position)) STRICT, WITHOUT ROWID;
      PRAGMA user_version = 2;
    )sql",
};

constexpr store::DatabaseKind kKind{
    .name = "catalogue.db",
    .failed = kCatalogueFailed,
    .elsewhere = kElsewhere,
    .repair =
        "The next `yoke pull` or `yoke import` puts the file aside and begins a new one; "
        "`yoke import` finds the models again.",
    .application_id = 0x596f6b4d,  // "YokM"
    .migrations = kMigrations};

std::int64_t to_integer(std::uint64_t value) {
  constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  return static_cast<std::int64_t>(std::min(value, kMost));
}

std::uint64_t to_count(std::int64_t value) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(value, 0));
}

std::int64_t to_ms(Time time) {
  return std::chrono::floor<milliseconds>(time.time_since_epoch()).count();
}

// Whatever a file says is a time.
Time from_ms(std::int64_t value) {
  static constexpr auto kMost = std::chrono::floor<milliseconds>(Time::duration::max()).count();
  return Time(milliseconds(std::clamp(value, -kMost, kMost)));
}

FileRole role_named(std::string_view name) {
  for (const FileRole role : {FileRole::kWeights, FileRole::kProjector, FileRole::kTokenizer}) {
    if (name == name_of(role)) return role;
  }
  return FileRole::kOther;
}

bool is_alnum(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_name_character(char c) {
  return is_alnum(c) || std::string_view("._:/+@-").find(c) != std::string_view::npos;
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

// The names that `name` may stand for: by the first rule that any of them meets.
std::vector<std::string> meant_by(std::string_view name, const std::vector<std::string>& names) {
  const std::string wanted = lower(name);
  using Rule = bool (*)(const std::string& known, const std::string& wanted);
  constexpr std::array<Rule, 3> kRules{
      [](const std::string& known, const std::string& text) { return known == text; },
      [](const std::string& known, const std::string& text) { return known.ends_with(text); },
      [](const std::string& known, const std::string& text) {
        return known.find(text) != std::string::npos;
      }};
  std::vector<std::string> meant;
  for (const Rule rule : kRules) {
    for (const std::string& known : names) {
      if (!wanted.empty() && rule(lower(known), wanted)) meant.push_back(known);
    }
    if (!meant.empty()) return meant;
  }
  return meant;
}

tl::unexpected<Error> unknown(std::string_view name, const std::vector<std::string>& names) {
  std::string hint(kListHint);
  if (names.empty()) hint = "There is none yet: `yoke pull` and `yoke import` get some.";
  const std::vector<std::string_view> views(names.begin(), names.end());
  if (const auto near = nearest(name, views))
    hint = fmt::format("Did you mean {}? {}", *near, hint);
  return fail(kModelUnknown, fmt::format("There is no model '{}'.", name), std::move(hint));
}

tl::unexpected<Error> ambiguous(std::string_view name, std::vector<std::string> meant) {
  constexpr std::size_t kMost = 8;
  const bool more = meant.size() > kMost;
  if (more) meant.resize(kMost);
  return fail(kModelUnknown,
              fmt::format("'{}' may be any of {}{}.", name, fmt::join(meant, ", "),
                          more ? " and others" : ""),
              "Say more of the name.");
}

Result<void> check(const CatalogueEntry& entry) {
  if (!is_entry_name(entry.name)) {
    return fail(kInvalidArgument, fmt::format("A model can't be called '{}'.", entry.name),
                "Letters, digits and . _ : / + @ - are possible, 128 of them at most.");
  }
  const bool absolute =
      entry.path.is_absolute() && std::ranges::all_of(entry.files, [](const ModelFile& file) {
        return file.path.is_absolute();
      });
  if (absolute) return {};
  return fail(kInvalidArgument,
              fmt::format("The files of {} have to be absolute paths.", entry.name));
}

Result<void> make_directory(const fs::path& dir) {
  std::error_code error;
  fs::create_directories(dir, error);
  if (!error && fs::is_directory(dir, error)) return {};
  if (!error) error = std::make_error_code(std::errc::not_a_directory);
  return fail(kCatalogueFailed, fmt::format("{} can't be made: {}.", dir.string(), error.message()),
              fmt::format("Make the directory above it writable, or {}.", kElsewhere));
}

Result<Database> open_to_read(const fs::path& file) {
  YOKE_TRY(Database database, Database::open_to_read(file.string(), kKind));
  YOKE_TRY(const std::string defect, store::defect_of(database));
  if (defect.empty()) return database;
  return fail(kCatalogueFailed, fmt::format("{} {}.", file.string(), defect),
              std::string(kKind.repair));
}

}  // namespace

std::string_view name_of(FileRole role) {
  switch (role) {
    case FileRole::kWeights:
      return "weights";
    case FileRole::kProjector:
      return "projector";
    case FileRole::kTokenizer:
      return "tokenizer";
    case FileRole::kOther:
      break;
  }
  return "other";
}

std::uint64_t CatalogueEntry::bytes() const {
  std::uint64_t sum = 0;
  for (const ModelFile& file : files) sum += file.bytes;
  return sum;
}

fs::path CatalogueEntry::projector() const {
  const auto found = std::ranges::find(files, FileRole::kProjector, &ModelFile::role);
  return found != files.end() ? found->path : fs::path();
}

bool is_entry_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameLength && is_alnum(name.front()) &&
         std::ranges::all_of(name, is_name_character);
}

std::string entry_name(std::string_view text) {
  std::string name;
  for (const char c : text) {
    const char next = is_name_character(c) ? c : '-';
    if (name.empty() ? is_alnum(next) : name.size() < kMaxNameLength) name += next;
  }
  return name.empty() ? "model" : name;
}

struct Catalogue::Impl {
  UniqueFd lock;                     // Before the database, so that it is given back after it.
  std::optional<Database> database;  // None: there is no file to read.
  std::vector<std::string> notes;

  Result<void> insert(const CatalogueEntry& entry);
  Result<void> insert(const std::string& model, std::int64_t position, const ModelFile& file);
  Result<std::vector<CatalogueEntry>> entries();
  Result<void> add_files(std::vector<CatalogueEntry>& entries);
  Result<void> end_pull(std::string_view source);
  Result<void> add_leftovers(const std::vector<fs::path>& files);
};

Result<void> Catalogue::Impl::insert(const CatalogueEntry& entry) {
  YOKE_TRY(Statement put,
           database->prepare("INSERT INTO model (name, source, revision, format, path, "
                             "architecture, quantization, parameters, context_length, added_ms) "
                             "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"));
  YOKE_CHECK(put.bind(entry.name)
                 .bind(entry.source)
                 .bind(entry.revision)
                 .bind(entry.format)
                 .bind(entry.path.native())
                 .bind(entry.architecture)
                 .bind(entry.quantization)
                 .bind(to_integer(entry.parameters))
                 .bind(to_integer(entry.context_length))
                 .bind(to_ms(entry.added))
                 .run());
  std::int64_t position = 0;
  for (const ModelFile& file : entry.files) YOKE_CHECK(insert(entry.name, position++, file));
  return {};
}

Result<void> Catalogue::Impl::insert(const std::string& model, std::int64_t position,
                                     const ModelFile& file) {
  YOKE_TRY(Statement put, database->prepare("INSERT INTO file (model, position, path, bytes, "
                                            "sha256, role, linked) VALUES (?, ?, ?, ?, ?, ?, ?)"));
  return put.bind(model)
      .bind(position)
      .bind(file.path.native())
      .bind(to_integer(file.bytes))
      .bind(file.sha256)
      .bind(name_of(file.role))
      .bind(std::int64_t{file.linked ? 1 : 0})
      .run();
}

Result<std::vector<CatalogueEntry>> Catalogue::Impl::entries() {
  std::vector<CatalogueEntry> found;
  YOKE_TRY(Statement rows,
           database->prepare("SELECT name, source, revision, format, path, architecture, "
                             "quantization, parameters, context_length, added_ms FROM model "
                             "ORDER BY name"));
  while (true) {
    YOKE_TRY(const bool row, rows.step());
    if (!row) return found;
    CatalogueEntry& entry = found.emplace_back();
    entry.name = rows.text();
    entry.source = rows.text();
    entry.revision = rows.text();
    entry.format = rows.text();
    entry.path = rows.text();
    entry.architecture = rows.text();
    entry.quantization = rows.text();
    entry.parameters = to_count(rows.integer());
    entry.context_length = to_count(rows.integer());
    entry.added = from_ms(rows.integer());
  }
}

// To entries by name.
Result<void> Catalogue::Impl::add_files(std::vector<CatalogueEntry>& entries) {
  YOKE_TRY(Statement rows, database->prepare("SELECT model, path, bytes, sha256, role, linked "
                                             "FROM file ORDER BY model, position"));
  auto entry = entries.begin();
  while (true) {
    YOKE_TRY(const bool row, rows.step());
    if (!row) return {};
    const std::string model = rows.text();
    while (entry != entries.end() && entry->name < model) ++entry;
    if (entry == entries.end()) return {};
    if (entry->name != model) continue;
    ModelFile& file = entry->files.emplace_back();
    file.path = rows.text();
    file.bytes = to_count(rows.integer());
    file.sha256 = rows.text();
    file.role = role_named(rows.text());
    file.linked = rows.integer() != 0;
  }
}

Result<void> Catalogue::Impl::end_pull(std::string_view source) {
  YOKE_TRY(Statement remove, database->prepare("DELETE FROM pulled_file WHERE source = ?"));
  return remove.bind(source).run();
}

Result<void> Catalogue::Impl::add_leftovers(const std::vector<fs::path>& files) {
  for (const fs::path& file : files) {
    YOKE_TRY(Statement keep, database->prepare("INSERT OR IGNORE INTO leftover VALUES (?)"));
    YOKE_CHECK(keep.bind(file.native()).run());
  }
  return {};
}

Result<std::unique_ptr<Catalogue>> Catalogue::open(const fs::path& model_dir, Use use) {
  auto impl = std::make_unique<Impl>();
  const fs::path file = model_dir / "catalogue.db";
  if (use == Use::kRead) {
    std::error_code error;
    const bool missing = fs::status(file, error).type() == fs::file_type::not_found;
    if (!missing) {
      YOKE_TRY(impl->database, open_to_read(file));
    }
    return std::unique_ptr<Catalogue>(new Catalogue(std::move(impl)));
  }
  YOKE_CHECK(make_directory(model_dir));
  YOKE_TRY(impl->lock, store::lock_file(model_dir / "catalogue.lock",
                                        {.in_use = {kModelsInUse,
                                                    "Another Yoke{} is changing the models in " +
                                                        model_dir.string() + ".",
                                                    "Try again when it is done, or end it."},
                                         .failed = kCatalogueFailed,
                                         .elsewhere = kElsewhere}));
  YOKE_TRY(impl->database, store::open_sound(file, kKind, impl->notes));
  // An entry stands for a download of hours, so it also has to outlive a power failure.
  // Its log is kept so that `yoke rm` works on a full disk, and begun again now and early so that
  // it does not grow.
  impl->database->keep_log();
  YOKE_CHECK(
      impl->database->run("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
                          "PRAGMA journal_size_limit = -1; PRAGMA wal_autocheckpoint = 32;"
                          "PRAGMA wal_checkpoint"));
  return std::unique_ptr<Catalogue>(new Catalogue(std::move(impl)));
}

Catalogue::Catalogue(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Catalogue::~Catalogue() = default;

const std::vector<std::string>& Catalogue::notes() const { return impl_->notes; }

Result<void> Catalogue::put(const CatalogueEntry& entry) {
  YOKE_CHECK(check(entry));
  Database& database = *impl_->database;
  YOKE_TRY(Transaction transaction, Transaction::begin(database));
  YOKE_TRY(Statement remove, database.prepare("DELETE FROM model WHERE name = ?"));
  YOKE_CHECK(remove.bind(entry.name).run());
  YOKE_CHECK(impl_->insert(entry));
  YOKE_CHECK(impl_->end_pull(entry.source));
  YOKE_CHECK(database.run("DELETE FROM leftover WHERE path IN (SELECT path FROM file)"));
  return transaction.commit();
}

Result<void> Catalogue::begin_pull(const BegunPull& pull) {
  Database& database = *impl_->database;
  YOKE_TRY(Transaction transaction, Transaction::begin(database));
  YOKE_CHECK(impl_->end_pull(pull.source));
  std::int64_t position = 0;
  for (const BegunPull::File& file : pull.files) {
    YOKE_TRY(Statement insert, database.prepare("INSERT INTO pulled_file VALUES (?, ?, ?, ?)"));
    insert.bind(pull.source).bind(position++).bind(file.path.native());
    YOKE_CHECK(insert.bind(to_integer(file.bytes)).run());
    const std::string path = file.path.native();
    YOKE_TRY(Statement keep, database.prepare("DELETE FROM leftover WHERE path IN (?, ?, ?)"));
    YOKE_CHECK(keep.bind(path).bind(path + ".part").bind(path + ".part.json").run());
  }
  return transaction.commit();
}

Result<std::vector<BegunPull>> Catalogue::begun_pulls() {
  std::vector<BegunPull> found;
  if (!impl_->database) return found;
  YOKE_TRY(const std::int64_t version, impl_->database->number("PRAGMA user_version"));
  if (version < 2) return found;  // Nobody changed it since there are such.
  YOKE_TRY(Statement rows, impl_->database->prepare("SELECT source, path, bytes FROM pulled_file "
                                                    "ORDER BY source, position"));
  while (true) {
    YOKE_TRY(const bool row, rows.step());
    if (!row) return found;
    std::string source = rows.text();
    if (found.empty() || found.back().source != source) {
      found.push_back({.source = std::move(source), .files = {}});
    }
    BegunPull::File& file = found.back().files.emplace_back();
    file.path = rows.text();
    file.bytes = to_count(rows.integer());
  }
}

Result<void> Catalogue::forget_pull(std::string_view source, const std::vector<fs::path>& files) {
  YOKE_TRY(Transaction transaction, Transaction::begin(*impl_->database));
  YOKE_CHECK(impl_->end_pull(source));
  YOKE_CHECK(impl_->add_leftovers(files));
  return transaction.commit();
}

Result<std::vector<CatalogueEntry>> Catalogue::entries() {
  if (!impl_->database) return std::vector<CatalogueEntry>();
  Database& database = *impl_->database;
  // One state of both tables, whoever writes meanwhile.
  YOKE_CHECK(database.run("BEGIN"));
  const auto read = [&]() -> Result<std::vector<CatalogueEntry>> {
    YOKE_TRY(const std::int64_t version, database.number("PRAGMA user_version"));
    YOKE_CHECK(store::check_version(version, kKind));
    if (version == 0) return std::vector<CatalogueEntry>();  // Whoever made it was killed.
    YOKE_TRY(std::vector<CatalogueEntry> found, impl_->entries());
    YOKE_CHECK(impl_->add_files(found));
    return found;
  };
  auto found = read();
  // It changed nothing: there is nothing that its end could lose.
  static_cast<void>(database.run("ROLLBACK"));
  return found;
}

Result<CatalogueEntry> Catalogue::find(std::string_view name) {
  YOKE_TRY(std::vector<CatalogueEntry> all, entries());
  std::vector<std::string> names;
  for (const CatalogueEntry& entry : all) names.push_back(entry.name);
  auto exact = std::ranges::find(all, name, &CatalogueEntry::name);
  if (exact != all.end()) return std::move(*exact);
  std::vector<std::string> meant = meant_by(name, names);
  if (meant.empty()) return unknown(name, names);
  if (meant.size() > 1) return ambiguous(name, std::move(meant));
  return std::move(*std::ranges::find(all, meant.front(), &CatalogueEntry::name));
}

Result<void> Catalogue::remove(std::string_view name, const std::vector<fs::path>& files) {
  Database& database = *impl_->database;
  YOKE_TRY(Transaction transaction, Transaction::begin(database));
  YOKE_TRY(Statement remove, database.prepare("DELETE FROM model WHERE name = ?"));
  YOKE_CHECK(remove.bind(name).run());
  if (database.changes() == 0) {
    return fail(kModelUnknown, fmt::format("There is no model '{}'.", name),
                std::string(kListHint));
  }
  YOKE_CHECK(impl_->add_leftovers(files));
  return transaction.commit();
}

Result<std::vector<fs::path>> Catalogue::leftovers() {
  YOKE_TRY(Statement rows, impl_->database->prepare("SELECT path FROM leftover ORDER BY path"));
  std::vector<fs::path> found;
  while (true) {
    YOKE_TRY(const bool row, rows.step());
    if (!row) return found;
    found.emplace_back(rows.text());
  }
}

Result<void> Catalogue::settle_leftovers() { return impl_->database->run("DELETE FROM leftover"); }

}  // namespace yoke::models
