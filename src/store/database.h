// Database and Statement: SQLite with errors as values. Owned by a Store or a catalogue; one thread
// at a time. A Statement must not outlive its Database.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <sqlite3.h>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace yoke::store {

// What a database is to its user. Lives longer than the databases of that kind; constants.
struct DatabaseKind {
  std::string_view name;            // "state.db"
  ErrorCode failed;                 // Of every error.
  std::string_view elsewhere;       // For hints: "set state_dir in [server]".
  std::string_view repair;          // The same, for a damaged file.
  std::int64_t application_id = 0;  // As `file` can show it.
  // What makes version 1 of an empty file, version 2 of version 1, and so on: never to be changed.
  std::span<const char* const> migrations;
};

class Statement {
 public:
  // Values for the ?s of the text, from the first on.
  Statement& bind(std::string_view value);
  Statement& bind(std::int64_t value);
  Statement& bind(double value);

  // The next row; false after the last. An error also for what bind() could not take.
  Result<bool> step();
  // To its end, for what has no rows.
  Result<void> run();

  // Of the row, from the first column on.
  std::string text();
  std::int64_t integer();
  double real();

 private:
  friend class Database;
  Statement(sqlite3_stmt* statement, const DatabaseKind& kind)
      : statement_(statement), kind_(&kind) {}
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };

  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  const DatabaseKind* kind_;
  int bound_ = 0;
  int column_ = 0;
  int failed_ = SQLITE_OK;  // What the first bind() that failed said.
};

class Database {
 public:
  Database() = default;  // None; only to be assigned to.
  // `path` may be ":memory:". The kind's error, as of all that follow.
  static Result<Database> open(const std::string& path, const DatabaseKind& kind);
  // One that is there, also where nothing can be written.
  static Result<Database> open_to_read(const std::string& path, const DatabaseKind& kind);

  // Statements without values.
  Result<void> run(const char* sql);
  Result<Statement> prepare(std::string_view sql);
  // The one number that the statement gives.
  Result<std::int64_t> number(std::string_view sql);
  // Rows that the last statement changed.
  std::size_t changes() const;
  // Replaces all that is in `other`.
  Result<void> copy_to(Database& other);
  // Leaves the log and its index beside the database when it is closed, with the room that they
  // have: then a full disk can be written to a little, and who may only read can read.
  void keep_log();
  // Whether the last call failed because the file is no database, or damaged.
  bool is_damaged() const;
  const DatabaseKind& kind() const { return *kind_; }

 private:
  Database(sqlite3* handle, const DatabaseKind& kind) : handle_(handle), kind_(&kind) {}
  static Result<Database> open(const std::string& path, int flags, const DatabaseKind& kind);
  struct Close {
    void operator()(sqlite3* handle) const { sqlite3_close(handle); }
  };

  std::unique_ptr<sqlite3, Close> handle_;
  const DatabaseKind* kind_ = nullptr;
};

// All or nothing: what was done since begin() is undone unless commit() succeeded.
class Transaction {
 public:
  static Result<Transaction> begin(Database& database);
  Transaction(Transaction&& other) noexcept : database_(std::exchange(other.database_, nullptr)) {}
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();
  Result<void> commit();

 private:
  explicit Transaction(Database& database) : database_(&database) {}
  Database* database_;
};

}  // namespace yoke::store
