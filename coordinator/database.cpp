#include "coordinator/database.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sqlite3.h>

#include "common/error.h"

namespace cosub::coordinator {
namespace {

struct Finalize {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Statement = std::unique_ptr<sqlite3_stmt, Finalize>;

int bind(sqlite3_stmt* statement, int index, const Value& value) {
  if (const auto* integer = std::get_if<std::int64_t>(&value))
    return sqlite3_bind_int64(statement, index, *integer);
  if (const auto* real = std::get_if<double>(&value)) return sqlite3_bind_double(statement, index, *real);
  const auto& text = std::get<std::string>(value);
  return sqlite3_bind_text(statement, index, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT);
}

Value column(sqlite3_stmt* statement, int index) {
  switch (sqlite3_column_type(statement, index)) {
    case SQLITE_INTEGER:
      return std::int64_t{sqlite3_column_int64(statement, index)};
    case SQLITE_FLOAT:
      return sqlite3_column_double(statement, index);
    case SQLITE_NULL:
      return std::string();
    default: {
      const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, index));
      return std::string(text, static_cast<std::size_t>(sqlite3_column_bytes(statement, index)));
    }
  }
}

}  // namespace

void Database::Close::operator()(sqlite3* handle) const {
  sqlite3_close(handle);
}

Database::Database(const std::filesystem::path& file) : file_(file) {
  sqlite3* handle = nullptr;
  const int code =
      sqlite3_open_v2(file.c_str(), &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
  handle_.reset(handle);
  if (code != SQLITE_OK) fail("cannot open", code);
  sqlite3_extended_result_codes(handle, 1);
  sqlite3_busy_timeout(handle, 5000);
  run("PRAGMA journal_mode=WAL");
  run("PRAGMA synchronous=FULL");
  run("PRAGMA foreign_keys=ON");
}

void Database::run(const std::string& sql, const std::vector<Value>& values) {
  query(sql, values);
}

std::vector<Row> Database::query(const std::string& sql, const std::vector<Value>& values) {
  sqlite3_stmt* raw = nullptr;
  int code = sqlite3_prepare_v2(handle_.get(), sql.c_str(), -1, &raw, nullptr);
  const Statement statement(raw);
  if (code != SQLITE_OK) fail(sql, code);
  for (std::size_t i = 0; i < values.size(); ++i) {
    code = bind(raw, static_cast<int>(i) + 1, values[i]);
    if (code != SQLITE_OK) fail(sql, code);
  }
  std::vector<Row> rows;
  while ((code = sqlite3_step(raw)) == SQLITE_ROW) {
    Row& row = rows.emplace_back();
    for (int i = 0; i < sqlite3_column_count(raw); ++i) row.push_back(column(raw, i));
  }
  if (code != SQLITE_DONE) fail(sql, code);
  return rows;
}

void Database::check() {
  const std::vector<Row> rows = query("PRAGMA quick_check(1)");
  if (rows.empty() || rows[0].empty()) return;
  const auto* verdict = std::get_if<std::string>(&rows[0][0]);
  if (verdict == nullptr || *verdict != "ok") fail(verdict ? *verdict : "quick_check", SQLITE_CORRUPT);
}

void Database::fail(const std::string& what, int code) const {
  const std::string detail =
      handle_ ? std::string(sqlite3_errmsg(handle_.get())) : std::string(sqlite3_errstr(code));
  switch (code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      throw DataError(
          fmt::format("{}: the coordinator's memory is damaged ({}). Put back a copy of it, or move it and "
                      "its -wal and -shm files "
                      "away and submit the pipelines again: their runs go on from what lies in their folders",
                      file_.string(), detail));
    case SQLITE_FULL:
      throw IoError(fmt::format("{}: the disk is full: free some space", file_.string()));
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      throw IoError(fmt::format("{}: another process holds it locked for more than 5 s", file_.string()));
    default:
      throw IoError(fmt::format("{}: {} ({})", file_.string(), detail, what));
  }
}

Transaction::Transaction(Database& database) : database_(database) {
  database_.run("BEGIN IMMEDIATE");
}

void Transaction::commit() {
  database_.run("COMMIT");
  open_ = false;
}

Transaction::~Transaction() {
  if (!open_) return;
  try {
    database_.run("ROLLBACK");
  } catch (const Error& problem) {
    // SQLite rolls back by itself on errors such as a full disk; there is nothing left to undo then.
    spdlog::debug("rollback: {}", problem.what());
  }
}

}  // namespace cosub::coordinator
