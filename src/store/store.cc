#include "store/store.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <system_error>

#include <fmt/format.h>

#include "store/database.h"
#include "store/schema.h"
#include "store/state_lock.h"

namespace yoke::store {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

std::int64_t to_ms(Time time) {
  return std::chrono::floor<milliseconds>(time.time_since_epoch()).count();
}

// Whatever a file says is a time.
Time from_ms(std::int64_t value) {
  static constexpr auto kMost = std::chrono::floor<milliseconds>(Time::duration::max()).count();
  return Time(milliseconds(std::clamp(value, -kMost, kMost)));
}

Statement& bind(Statement& statement, const Case& of) {
  return statement.bind(of.model).bind(of.file).bind(of.backend).bind(of.engine).bind(of.driver);
}

// Of the row, from its first column on.
Case read_case(Statement& row) {
  Case of;
  of.model = row.text();
  of.file = row.text();
  of.backend = row.text();
  of.engine = row.text();
  of.driver = row.text();
  return of;
}

Result<void> make_directory(const fs::path& dir) {
  std::error_code error;
  fs::create_directories(dir.parent_path(), error);
  // For its owner only: the lines of logs in it may quote what users wrote.
  if (::mkdir(dir.c_str(), 0700) == 0 || errno == EEXIST) return {};
  return fail(
      kStoreFailed,
      fmt::format("{} can't be made: {}.", dir.string(), std::generic_category().message(errno)),
      "Make the directory above it writable, or set state_dir in [server].");
}

// As SQLite would make it, but for its owner only, as the files beside it then are.
void make_private(const fs::path& file) {
  const UniqueFd made(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
}

}  // namespace

struct Store::Impl {
  UniqueFd lock;  // Before the database, so that it is given back after it.
  Database database;

  Result<void> forget_old_quarantines();
  // Makes room in a table whose rows are counted by `written`.
  Result<void> keep_newest(std::string_view sql, std::size_t limit);
};

Result<void> Store::Impl::forget_old_quarantines() {
  YOKE_TRY(Statement forget, database.prepare("DELETE FROM quarantine WHERE until_ms < ?"));
  return forget.bind(to_ms(std::chrono::system_clock::now() - kForgetAfter)).run();
}

Result<void> Store::Impl::keep_newest(std::string_view sql, std::size_t limit) {
  YOKE_TRY(Statement forget, database.prepare(sql));
  return forget.bind(static_cast<std::int64_t>(limit)).run();
}

Result<std::unique_ptr<Store>> Store::open(const fs::path& dir, std::vector<std::string>& notes) {
  YOKE_CHECK(make_directory(dir));
  YOKE_TRY(UniqueFd lock, lock_state(dir));
  make_private(dir / "state.db");
  YOKE_TRY(Database database, open_sound(dir / "state.db", state_kind(), notes));
  auto impl = std::make_unique<Impl>(std::move(lock), std::move(database));
  return std::unique_ptr<Store>(new Store(std::move(impl)));
}

Result<std::unique_ptr<Store>> Store::in_memory() {
  YOKE_TRY(Database database, Database::open(":memory:", state_kind()));
  YOKE_CHECK(migrate(database));
  auto impl = std::make_unique<Impl>(UniqueFd(), std::move(database));
  return std::unique_ptr<Store>(new Store(std::move(impl)));
}

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Store::~Store() = default;

Result<void> Store::copy_to(Store& other) { return impl_->database.copy_to(other.impl_->database); }

// Quarantines

Result<void> Store::put(const Quarantine& quarantine) {
  YOKE_TRY(Transaction transaction, Transaction::begin(impl_->database));
  YOKE_CHECK(impl_->forget_old_quarantines());
  YOKE_TRY(Statement put, impl_->database.prepare(
                              "INSERT OR REPLACE INTO quarantine (model, file, backend, engine, "
                              "driver, failure, message, since_ms, until_ms, count) "
                              "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"));
  YOKE_CHECK(bind(put, quarantine.of)
                 .bind(quarantine.failure)
                 .bind(quarantine.message)
                 .bind(to_ms(quarantine.since))
                 .bind(to_ms(quarantine.until))
                 .bind(std::int64_t{quarantine.count})
                 .run());
  return transaction.commit();
}

Result<std::vector<Quarantine>> Store::quarantines() {
  YOKE_TRY(Statement rows,
           impl_->database.prepare("SELECT model, file, backend, engine, driver, failure, message, "
                                   "since_ms, until_ms, count FROM quarantine WHERE until_ms >= ? "
                                   "ORDER BY model, backend, since_ms DESC"));
  rows.bind(to_ms(std::chrono::system_clock::now() - kForgetAfter));
  std::vector<Quarantine> found;
  while (true) {
    YOKE_TRY(const bool row, rows.step());
    if (!row) return found;
    Quarantine& quarantine = found.emplace_back();
    quarantine.of = read_case(rows);
    quarantine.failure = rows.text();
    quarantine.message = rows.text();
    quarantine.since = from_ms(rows.integer());
    quarantine.until = from_ms(rows.integer());
    quarantine.count = static_cast<int>(std::clamp<std::int64_t>(rows.integer(), 0, 1'000'000));
  }
}

Result<std::size_t> Store::clear_quarantines(std::string_view model, std::string_view backend) {
  YOKE_TRY(Statement clear,
           impl_->database.prepare("DELETE FROM quarantine WHERE (?1 = '' OR model = ?1) "
                                   "AND (?2 = '' OR backend = ?2)"));
  YOKE_CHECK(clear.bind(model).bind(backend).run());
  return impl_->database.changes();
}

// Failures

Result<void> Store::add(const FailureRecord& failure) {
  YOKE_TRY(Transaction transaction, Transaction::begin(impl_->database));
  YOKE_TRY(Statement add,
           impl_->database.prepare("INSERT INTO failure (model, file, backend, engine, driver, "
                                   "failure, message, evidence, time_ms) "
                                   "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"));
  YOKE_CHECK(bind(add, failure.of)
                 .bind(failure.failure)
                 .bind(failure.message)
                 .bind(failure.evidence)
                 .bind(to_ms(failure.time))
                 .run());
  YOKE_CHECK(impl_->keep_newest("DELETE FROM failure WHERE id <= (SELECT max(id) FROM failure) - ?",
                                kMaxFailures));
  return transaction.commit();
}

Result<std::vector<FailureRecord>> Store::failures(std::string_view model, std::size_t limit) {
  YOKE_TRY(Statement rows,
           impl_->database.prepare("SELECT model, file, backend, engine, driver, failure, message, "
                                   "evidence, time_ms FROM failure WHERE model = ? "
                                   "ORDER BY id DESC LIMIT ?"));
  rows.bind(model).bind(static_cast<std::int64_t>(std::min(limit, kMaxFailures)));
  std::vector<FailureRecord> found;
  while (true) {
    YOKE_TRY(const bool row, rows.step());
    if (!row) return found;
    FailureRecord& failure = found.emplace_back();
    failure.of = read_case(rows);
    failure.failure = rows.text();
    failure.message = rows.text();
    failure.evidence = rows.text();
    failure.time = from_ms(rows.integer());
  }
}

// Checks of answers

Result<void> Store::put(const CheckRecord& check) {
  YOKE_TRY(Transaction transaction, Transaction::begin(impl_->database));
  YOKE_TRY(Statement put, impl_->database.prepare(
                              "INSERT OR REPLACE INTO answer_check (model, file, backend, engine, "
                              "driver, agreed, distance, time_ms, written) "
                              "VALUES (?, ?, ?, ?, ?, ?, ?, ?, "
                              "(SELECT coalesce(max(written), 0) + 1 FROM answer_check))"));
  YOKE_CHECK(bind(put, check.of)
                 .bind(std::int64_t{check.agreed ? 1 : 0})
                 .bind(check.distance)
                 .bind(to_ms(check.time))
                 .run());
  YOKE_CHECK(impl_->keep_newest(
      "DELETE FROM answer_check WHERE written <= (SELECT max(written) FROM answer_check) - ?",
      kMaxChecks));
  return transaction.commit();
}

Result<std::optional<CheckRecord>> Store::check(const Case& of) {
  YOKE_TRY(Statement rows, impl_->database.prepare(
                               "SELECT agreed, distance, time_ms FROM answer_check WHERE model = ? "
                               "AND file = ? AND backend = ? AND engine = ? AND driver = ?"));
  YOKE_TRY(const bool row, bind(rows, of).step());
  if (!row) return std::optional<CheckRecord>();
  CheckRecord check;
  check.of = of;
  check.agreed = rows.integer() != 0;
  check.distance = rows.real();
  check.time = from_ms(rows.integer());
  return check;
}

Result<void> Store::put_reference(std::string_view file, int prompt_tokens, std::string_view text) {
  YOKE_TRY(Transaction transaction, Transaction::begin(impl_->database));
  YOKE_TRY(Statement put,
           impl_->database.prepare("INSERT OR REPLACE INTO reference (file, prompt_tokens, text, "
                                   "written) VALUES (?, ?, ?, "
                                   "(SELECT coalesce(max(written), 0) + 1 FROM reference))"));
  YOKE_CHECK(put.bind(file).bind(std::int64_t{prompt_tokens}).bind(text).run());
  YOKE_CHECK(impl_->keep_newest(
      "DELETE FROM reference WHERE written <= (SELECT max(written) FROM reference) - ?",
      kMaxReferences));
  return transaction.commit();
}

Result<std::optional<std::string>> Store::reference(std::string_view file, int prompt_tokens) {
  YOKE_TRY(Statement rows, impl_->database.prepare("SELECT text FROM reference WHERE file = ? "
                                                   "AND prompt_tokens = ?"));
  YOKE_TRY(const bool row, rows.bind(file).bind(std::int64_t{prompt_tokens}).step());
  if (!row) return std::optional<std::string>();
  return rows.text();
}

}  // namespace yoke::store
