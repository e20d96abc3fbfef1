// Database and Statement: SQLite as the rest of this module uses it, with errors as values.
// Owned by a Store; one thread at a time. A Statement must not outlive its Database.
#pragma once

#include <cstdint>
#include <memory>
#include <sqlite3.h>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"
#include "store/store.h"

namespace yoke::store {

class Statement {
 public:
  // Values for the ?s of the text, from the first on.
  Statement& bind(std::string_view value);
  Statement& bind(std::int64_t value);
  Statement& bind(double value);

  // The next row; false after the last. kStoreFailed, also for what bind() could not take.
  Result<bool> step();
  // To its end, for what has no rows.
  Result<void> run();

  // Of the row, from the first column on.
  std::string text();
  std::int64_t integer();
  double real();

 private:
  friend class Database;
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };

  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  int bound_ = 0;
  int column_ = 0;
  int failed_ = SQLITE_OK;  // What the first bind() that failed said.
};

class Database {
 public:
  Database() = default;  // None; only to be assigned to.
  // `path` may be ":memory:". kStoreFailed.
  static Result<Database> open(const std::string& path);

  // Statements without values.
  Result<void> run(const char* sql);
  Result<Statement> prepare(std::string_view sql);
  // The one number that the statement gives.
  Result<std::int64_t> number(std::string_view sql);
  // Rows that the last statement changed.
  std::size_t changes() const;
  // Replaces all that is in `other`.
  Result<void> copy_to(Database& other);
  // Whether the last call failed because the file is no database, or damaged.
  bool is_damaged() const;

 private:
  explicit Database(sqlite3* handle) : handle_(handle) {}
  struct Close {
    void operator()(sqlite3* handle) const { sqlite3_close(handle); }
  };

  std::unique_ptr<sqlite3, Close> handle_;
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
