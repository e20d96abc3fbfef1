#include "store/schema.h"

#include <array>
#include <ctime>
#include <system_error>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "store/store.h"

namespace yoke::store {
namespace {

namespace fs = std::filesystem;

constexpr std::array kMigrations{
    R"sql(
      PRAGMA application_id = 0x596f6b65;
      CREATE TABLE quarantine (
        model TEXT NOT NULL, file TEXT NOT NULL, backend TEXT NOT NULL, engine TEXT NOT NULL,
        driver TEXT NOT NULL, failure TEXT NOT NULL, message TEXT NOT NULL,
        since_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL, count INTEGER NOT NULL,
        PRIMARY KEY (model, file, backend, engine, driver)) STRICT, WITHOUT ROWID;
      CREATE TABLE failure (
        id INTEGER PRIMARY KEY,
        model TEXT NOT NULL, file TEXT NOT NULL, backend TEXT NOT NULL, engine TEXT NOT NULL,
        driver TEXT NOT NULL, failure TEXT NOT NULL, message TEXT NOT NULL, evidence TEXT NOT NULL,
        time_ms INTEGER NOT NULL) STRICT;
      CREATE INDEX failure_of_model ON failure (model, id);
      CREATE TABLE answer_check (
        model TEXT NOT NULL, file TEXT NOT NULL, backend TEXT NOT NULL, engine TEXT NOT NULL,
        driver TEXT NOT NULL, agreed INTEGER NOT NULL, distance REAL NOT NULL,
        time_ms INTEGER NOT NULL, written INTEGER NOT NULL,
        PRIMARY KEY (model, file, backend, engine, driver)) STRICT, WITHOUT ROWID;
      CREATE TABLE reference (
        file TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, text TEXT NOT NULL,
        written INTEGER NOT NULL,
        PRIMARY KEY (file, prompt_tokens)) STRICT, WITHOUT ROWID;
      PRAGMA user_version = 1;
    )sql",
};

Result<void> put_aside(const fs::path& file, const fs::path& aside, const DatabaseKind& kind) {
  std::error_code error;
  fs::rename(file, aside, error);
  if (error) {
    return fail(kind.failed,
                fmt::format("{} can't be put aside: {}.", file.string(), error.message()),
                fmt::format("Move it away, or {}.", kind.elsewhere));
  }
  // With the name that SQLite looks for, for whoever wants to save what is in it.
  fs::rename(file.string() + "-wal", aside.string() + "-wal", error);
  fs::remove(file.string() + "-shm", error);
  return {};
}

}  // namespace

const DatabaseKind& state_kind() {
  static constexpr DatabaseKind kKind{
      .name = "state.db",
      .failed = kStoreFailed,
      .elsewhere = "set state_dir in [server]",
      .repair = "The next start of Yoke puts the file aside and begins a new one.",
      .application_id = 0x596f6b65,  // "Yoke"
      .migrations = kMigrations};
  return kKind;
}

Result<std::string> defect_of(Database& database) {
  const auto tables = database.number("SELECT count(*) FROM sqlite_schema");
  if (!tables) {
    if (database.is_damaged()) return "is damaged";
    return fail(tables.error());
  }
  YOKE_TRY(const std::int64_t application, database.number("PRAGMA application_id"));
  if (application != database.kind().application_id) return *tables == 0 ? "" : "is not Yoke's";
  YOKE_TRY(Statement check, database.prepare("PRAGMA quick_check(1)"));
  const auto row = check.step();
  if (!row) {
    if (database.is_damaged()) return "is damaged";
    return fail(row.error());
  }
  return check.text() == "ok" ? "" : "is damaged";
}

Result<void> check_version(std::int64_t version, const DatabaseKind& kind) {
  const auto known = static_cast<std::int64_t>(kind.migrations.size());
  if (version >= 0 && version <= known) return {};
  return fail(kind.failed,
              fmt::format("{} was made by a later Yoke: it has version {}, and this one knows "
                          "{}.",
                          kind.name, version, known),
              fmt::format("Use that Yoke, or {}.", kind.elsewhere));
}

Result<void> migrate(Database& database) {
  YOKE_TRY(Transaction transaction, Transaction::begin(database));
  YOKE_TRY(const std::int64_t version, database.number("PRAGMA user_version"));
  const DatabaseKind& kind = database.kind();
  YOKE_CHECK(check_version(version, kind));
  for (auto next = static_cast<std::size_t>(version); next < kind.migrations.size(); ++next) {
    YOKE_CHECK(database.run(kind.migrations[next]));
  }
  return transaction.commit();
}

Result<Database> open_sound(const fs::path& file, const DatabaseKind& kind,
                            std::vector<std::string>& notes) {
  YOKE_TRY(Database database, Database::open(file.string(), kind));
  YOKE_TRY(const std::string defect, defect_of(database));
  if (!defect.empty()) {
    database = {};  // Closes the file.
    const fs::path aside =
        fmt::format("{}.damaged-{:%Y%m%dT%H%M%SZ}", file.string(), fmt::gmtime(std::time(nullptr)));
    YOKE_CHECK(put_aside(file, aside, kind));
    notes.push_back(fmt::format("{} {}. It is kept as {}, and a new one is begun.", file.string(),
                                defect, aside.filename().string()));
    YOKE_TRY(database, Database::open(file.string(), kind));
  }
  YOKE_CHECK(
      database.run("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
                   "PRAGMA journal_size_limit = 1048576"));
  YOKE_CHECK(migrate(database));
  return database;
}

}  // namespace yoke::store
