#include "store/schema.h"

#include <array>

#include <fmt/format.h>

namespace yoke::store {
namespace {

constexpr std::int64_t kApplicationId = 0x596f6b65;  // "Yoke", as `file` can show it.

// What makes version 1 of an empty file, version 2 of version 1, and so on: never to be changed.
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

}  // namespace

Result<std::string> defect_of(Database& database) {
  const auto tables = database.number("SELECT count(*) FROM sqlite_schema");
  if (!tables) {
    if (database.is_damaged()) return "is damaged";
    return fail(tables.error());
  }
  YOKE_TRY(const std::int64_t application, database.number("PRAGMA application_id"));
  if (application != kApplicationId) return *tables == 0 ? "" : "is not Yoke's";
  YOKE_TRY(Statement check, database.prepare("PRAGMA quick_check(1)"));
  const auto row = check.step();
  if (!row) {
    if (database.is_damaged()) return "is damaged";
    return fail(row.error());
  }
  return check.text() == "ok" ? "" : "is damaged";
}

Result<void> migrate(Database& database) {
  YOKE_TRY(Transaction transaction, Transaction::begin(database));
  YOKE_TRY(const std::int64_t version, database.number("PRAGMA user_version"));
  const auto known = static_cast<std::int64_t>(kMigrations.size());
  if (version < 0 || version > known) {
    return fail(kStoreFailed,
                fmt::format("state.db was made by a later Yoke: it has version {}, and this one "
                            "knows {}.",
                            version, known),
                "Use that Yoke, or set state_dir in [server] to another directory.");
  }
  for (auto next = static_cast<std::size_t>(version); next < kMigrations.size(); ++next) {
    YOKE_CHECK(database.run(kMigrations.at(next)));
  }
  return transaction.commit();
}

}  // namespace yoke::store
