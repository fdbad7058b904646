// A SQLite file as the coordinator needs it: WAL, synchronous=FULL, values bound, rows as values, every error
// an exception that names the file. Not thread-safe. SQLite opens its files close-on-exec.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <variant>
#include <vector>

struct sqlite3;

namespace cosub::coordinator {

using Value = std::variant<std::int64_t, double, std::string>;
using Row = std::vector<Value>;

class Database {
 public:
  /// Opens or creates. DataError when the file is damaged or something else; IoError when it cannot be
  /// opened.
  explicit Database(const std::filesystem::path& file);

  void run(const std::string& sql, const std::vector<Value>& values = {});
  std::vector<Row> query(const std::string& sql, const std::vector<Value>& values = {});

  /// PRAGMA integrity check of the whole file; DataError naming the first problem.
  void check();

 private:
  [[noreturn]] void fail(const std::string& what, int code) const;

  struct Close {
    void operator()(sqlite3* handle) const;
  };
  std::filesystem::path file_;
  std::unique_ptr<sqlite3, Close> handle_;
};

/// All or nothing: rolled back unless committed.
class Transaction {
 public:
  explicit Transaction(Database& database);
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  void commit();

 private:
  Database& database_;
  bool open_ = true;
};

}  // namespace cosub::coordinator
