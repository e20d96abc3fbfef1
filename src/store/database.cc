#include "store/database.h"

#include <cerrno>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>

namespace yoke::store {
namespace {

constexpr int kBusyLimitMs = 2000;

bool is_no_space(int result, int system_error) {
  return result == SQLITE_FULL || system_error == ENOSPC || system_error == EDQUOT ||
         system_error == EFBIG;
}

std::string hint_for(int result, int system_error, const std::string& dir,
                     const DatabaseKind& kind) {
  if (is_no_space(result, system_error)) {
    return fmt::format("Free some space in {}, or {}.", dir, kind.elsewhere);
  }
  switch (result) {
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_CANTOPEN:
    case SQLITE_AUTH:
      return fmt::format("Make {} and what is in it writable, or {}.", dir, kind.elsewhere);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return "Close the program that has the file open.";
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return std::string(kind.repair);
    default:
      // A limit or quota is reported like a broken disk.
      return fmt::format("See that the disk of {} has room and works, or {}.", dir, kind.elsewhere);
  }
}

// Why the last call for this connection failed.
tl::unexpected<Error> failure(sqlite3* handle, const DatabaseKind& kind) {
  const int result = sqlite3_errcode(handle);
  const int system_error =
      result == SQLITE_IOERR || result == SQLITE_CANTOPEN ? sqlite3_system_errno(handle) : 0;
  const char* name = sqlite3_db_filename(handle, "main");
  if (name == nullptr || *name == '\0') {
    return fail(kind.failed, fmt::format("What is kept in memory: {}.", sqlite3_errmsg(handle)));
  }
  const std::filesystem::path file(name);
  std::string reason = is_no_space(result, system_error) ? "there is no space left"
                                                         : std::string(sqlite3_errmsg(handle));
  if (system_error != 0) {
    reason += fmt::format(" ({})", std::generic_category().message(system_error));
  }
  return fail(kind.failed, fmt::format("{} can't be used: {}.", name, reason),
              hint_for(result, system_error, file.parent_path().string(), kind));
}

// A path inside a file: address.
std::string escaped(const std::string& path) {
  std::string text;
  for (const char c : path) {
    const bool plain = c != '%' && c != '?' && c != '#';
    text += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return text;
}

}  // namespace

Statement& Statement::bind(std::string_view value) {
  // An empty string_view may have no address, which would be a NULL.
  const char* const data = value.empty() ? "" : value.data();
  const int result = sqlite3_bind_text64(statement_.get(), ++bound_, data, value.size(),
                                         SQLITE_TRANSIENT, SQLITE_UTF8);
  if (failed_ == SQLITE_OK) failed_ = result;
  return *this;
}

Statement& Statement::bind(std::int64_t value) {
  const int result = sqlite3_bind_int64(statement_.get(), ++bound_, value);
  if (failed_ == SQLITE_OK) failed_ = result;
  return *this;
}

Statement& Statement::bind(double value) {
  const int result = sqlite3_bind_double(statement_.get(), ++bound_, value);
  if (failed_ == SQLITE_OK) failed_ = result;
  return *this;
}

Result<bool> Statement::step() {
  if (failed_ != SQLITE_OK) {
    return fail(kind_->failed, fmt::format("A value can't be kept: {}.", sqlite3_errstr(failed_)));
  }
  column_ = 0;
  const int result = sqlite3_step(statement_.get());
  if (result == SQLITE_ROW) return true;
  if (result == SQLITE_DONE) return false;
  return failure(sqlite3_db_handle(statement_.get()), *kind_);
}

Result<void> Statement::run() {
  while (true) {
    YOKE_TRY(const bool row, step());
    if (!row) return {};
  }
}

std::string Statement::text() {
  const int column = column_++;
  // The text first: asking for it may change the length.
  const unsigned char* const data = sqlite3_column_text(statement_.get(), column);
  const int size = sqlite3_column_bytes(statement_.get(), column);
  if (data == nullptr) return {};
  return {data, data + size};
}

std::int64_t Statement::integer() { return sqlite3_column_int64(statement_.get(), column_++); }

double Statement::real() { return sqlite3_column_double(statement_.get(), column_++); }

Result<Database> Database::open(const std::string& path, int flags, const DatabaseKind& kind) {
  sqlite3* handle = nullptr;
  const int result = sqlite3_open_v2(path.c_str(), &handle, flags | SQLITE_OPEN_NOMUTEX, nullptr);
  if (handle == nullptr) {
    return fail(kind.failed, fmt::format("{} can't be opened: {}.", path, sqlite3_errstr(result)));
  }
  Database database(handle, kind);
  if (result != SQLITE_OK) return failure(handle, kind);
  sqlite3_busy_timeout(handle, kBusyLimitMs);
  return database;
}

Result<Database> Database::open(const std::string& path, const DatabaseKind& kind) {
  return open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, kind);
}

Result<Database> Database::open_to_read(const std::string& path, const DatabaseKind& kind) {
  YOKE_TRY(Database database, open(path, SQLITE_OPEN_READONLY, kind));
  if (database.number("PRAGMA user_version")) return database;
  // A reader makes the files beside the database that a writer left away. Where it may not, nobody
  // writes and it can do without them, unless there is a log, which has to be read too.
  const int result = sqlite3_errcode(database.handle_.get());
  const bool refused = result == SQLITE_CANTOPEN || result == SQLITE_READONLY;
  std::error_code error;
  const std::uintmax_t log = std::filesystem::file_size(path + "-wal", error);
  if (!refused || (!error && log > 0)) return database;
  return open("file:" + escaped(path) + "?immutable=1", SQLITE_OPEN_READONLY | SQLITE_OPEN_URI,
              kind);
}

Result<void> Database::run(const char* sql) {
  if (sqlite3_exec(handle_.get(), sql, nullptr, nullptr, nullptr) == SQLITE_OK) return {};
  return failure(handle_.get(), *kind_);
}

Result<Statement> Database::prepare(std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int result = sqlite3_prepare_v2(handle_.get(), sql.data(), static_cast<int>(sql.size()),
                                        &statement, nullptr);
  if (result != SQLITE_OK) return failure(handle_.get(), *kind_);
  return Statement(statement, *kind_);
}

Result<std::int64_t> Database::number(std::string_view sql) {
  YOKE_TRY(Statement statement, prepare(sql));
  YOKE_TRY(const bool row, statement.step());
  return row ? statement.integer() : 0;
}

std::size_t Database::changes() const {
  return static_cast<std::size_t>(sqlite3_changes64(handle_.get()));
}

Result<void> Database::copy_to(Database& other) {
  sqlite3_backup* const backup =
      sqlite3_backup_init(other.handle_.get(), "main", handle_.get(), "main");
  if (backup == nullptr) return failure(other.handle_.get(), *kind_);
  sqlite3_backup_step(backup, -1);
  if (sqlite3_backup_finish(backup) != SQLITE_OK) return failure(other.handle_.get(), *kind_);
  return {};
}

void Database::keep_log() {
  int keep = 1;
  // Without it the log is made anew each time, which also works.
  static_cast<void>(sqlite3_file_control(handle_.get(), "main", SQLITE_FCNTL_PERSIST_WAL, &keep));
}

bool Database::is_damaged() const {
  const int result = sqlite3_errcode(handle_.get());
  return result == SQLITE_CORRUPT || result == SQLITE_NOTADB;
}

Result<Transaction> Transaction::begin(Database& database) {
  // At once for writing: a reader that becomes a writer later may fail as busy without a wait.
  YOKE_CHECK(database.run("BEGIN IMMEDIATE"));
  return Transaction(database);
}

Transaction::~Transaction() {
  // After some failures SQLite has done this already, and says so: there is nothing to do about it.
  if (database_ != nullptr) static_cast<void>(database_->run("ROLLBACK"));
}

Result<void> Transaction::commit() {
  YOKE_CHECK(database_->run("COMMIT"));
  database_ = nullptr;
  return {};
}

}  // namespace yoke::store
