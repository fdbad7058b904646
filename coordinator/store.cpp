#include "coordinator/store.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/error.h"

namespace cosub::coordinator {
namespace {

constexpr const char* kSchema[] = {
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL)",
    "INSERT INTO meta VALUES('generation', 0)",
    "CREATE TABLE pipelines(seq INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, folder TEXT "
    "NOT NULL,"
    " yaml TEXT NOT NULL, identity TEXT NOT NULL, goal TEXT NOT NULL, goal_reason TEXT NOT NULL)",
    "CREATE TABLE stages(pipeline TEXT NOT NULL REFERENCES pipelines(name) ON DELETE CASCADE, position "
    "INTEGER NOT NULL,"
    " name TEXT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL, counted_after INTEGER NOT NULL,"
    " restarts INTEGER NOT NULL, checkpoint_step INTEGER NOT NULL, backoff_ms INTEGER NOT NULL, progress "
    "TEXT NOT NULL,"
    " results TEXT NOT NULL, export_path TEXT NOT NULL, PRIMARY KEY(pipeline, name))",
    "CREATE TABLE attempts(pipeline TEXT NOT NULL, stage TEXT NOT NULL, number INTEGER NOT NULL, uuid TEXT "
    "NOT NULL UNIQUE,"
    " token TEXT NOT NULL, status TEXT NOT NULL, stop TEXT NOT NULL, stop_cause TEXT NOT NULL, stop_reason "
    "TEXT NOT NULL,"
    " end TEXT NOT NULL, reason TEXT NOT NULL, exit_code INTEGER NOT NULL, step INTEGER NOT NULL, seconds "
    "REAL NOT NULL,"
    " started_unix INTEGER NOT NULL, PRIMARY KEY(pipeline, stage, number),"
    " FOREIGN KEY(pipeline, stage) REFERENCES stages(pipeline, name) ON DELETE CASCADE)",
};

/// Takes the columns of a row one after another, each as what it should be.
class Reader {
 public:
  explicit Reader(const Row& row) : row_(row) {}
  std::int64_t integer() { return get<std::int64_t>(); }
  double real() {
    const Value& value = row_.at(next_++);
    if (const auto* whole = std::get_if<std::int64_t>(&value)) return static_cast<double>(*whole);
    return std::get<double>(value);
  }
  std::string text() { return get<std::string>(); }

 private:
  template <class T>
  T get() {
    return std::get<T>(row_.at(next_++));
  }
  const Row& row_;
  std::size_t next_ = 0;
};

AttemptState read_attempt(const Row& row) {
  Reader from(row);
  AttemptState attempt;
  attempt.number = from.integer();
  attempt.uuid = from.text();
  attempt.token = from.text();
  attempt.status = enum_from<AttemptStatus>(from.text());
  attempt.stop = enum_from<StopRequest>(from.text());
  attempt.stop_cause = enum_from<StopCause>(from.text());
  attempt.stop_reason = from.text();
  attempt.end = enum_from<EndClass>(from.text());
  attempt.reason = from.text();
  attempt.exit_code = static_cast<int>(from.integer());
  attempt.step = from.integer();
  attempt.seconds = from.real();
  attempt.started_unix = from.integer();
  return attempt;
}

StageState read_stage(const Row& row) {
  Reader from(row);
  StageState stage;
  stage.name = from.text();
  stage.status = enum_from<StageStatus>(from.text());
  stage.reason = from.text();
  stage.counted_after = from.integer();
  stage.restarts = from.integer();
  stage.checkpoint_step = from.integer();
  stage.backoff = std::chrono::milliseconds(from.integer());
  stage.progress = nlohmann::json::parse(from.text()).get<protocol::Progress>();
  stage.results = nlohmann::json::parse(from.text()).get<std::map<std::string, double>>();
  stage.export_path = from.text();
  return stage;
}

PipelineState read_pipeline(const Row& row) {
  Reader from(row);
  PipelineState pipeline;
  pipeline.name = from.text();
  pipeline.folder = from.text();
  pipeline.yaml = from.text();
  pipeline.identity = from.text();
  pipeline.goal = enum_from<Goal>(from.text());
  pipeline.goal_reason = from.text();
  return pipeline;
}

}  // namespace

Store::Store(const std::filesystem::path& file) : database_(file) {
  database_.check();
  Transaction transaction(database_);
  const std::int64_t version = Reader(database_.query("PRAGMA user_version").at(0)).integer();
  if (version > kSchemaVersion)
    throw DataError(fmt::format(
        "{}: written by a newer coordinator (schema {}, this one knows up to {}): use that version, or "
        "another state folder",
        file.string(), version, kSchemaVersion));
  if (version == 0) {
    for (const char* statement : kSchema) database_.run(statement);
    database_.run(fmt::format("PRAGMA user_version={}", kSchemaVersion));
  }
  database_.run("UPDATE meta SET value = value + 1 WHERE key = 'generation'");
  generation_ = Reader(database_.query("SELECT value FROM meta WHERE key = 'generation'").at(0)).integer();
  transaction.commit();
}

std::vector<PipelineState> Store::load() {
  std::vector<PipelineState> pipelines;
  for (const Row& row : database_.query(
           "SELECT name, folder, yaml, identity, goal, goal_reason FROM pipelines ORDER BY seq")) {
    PipelineState& pipeline = pipelines.emplace_back(read_pipeline(row));
    for (const Row& stage_row : database_.query(
             "SELECT name, status, reason, counted_after, restarts, checkpoint_step, backoff_ms, progress,"
             " results, export_path FROM stages WHERE pipeline = ? ORDER BY position",
             {pipeline.name})) {
      StageState& stage = pipeline.stages.emplace_back(read_stage(stage_row));
      for (const Row& attempt : database_.query(
               "SELECT number, uuid, token, status, stop, stop_cause, stop_reason, end, reason, exit_code,"
               " step, seconds, started_unix FROM attempts WHERE pipeline = ? AND stage = ? ORDER BY number",
               {pipeline.name, stage.name}))
        stage.attempts.push_back(read_attempt(attempt));
    }
  }
  return pipelines;
}

void Store::save(const PipelineState& pipeline) {
  Transaction transaction(database_);
  database_.run(
      "INSERT INTO pipelines(name, folder, yaml, identity, goal, goal_reason) VALUES(?, ?, ?, ?, ?, ?)"
      " ON CONFLICT(name) DO UPDATE SET folder = excluded.folder, yaml = excluded.yaml, identity = "
      "excluded.identity,"
      " goal = excluded.goal, goal_reason = excluded.goal_reason",
      {pipeline.name, pipeline.folder.string(), pipeline.yaml, pipeline.identity, to_string(pipeline.goal),
       pipeline.goal_reason});
  database_.run("DELETE FROM stages WHERE pipeline = ?", {pipeline.name});
  std::int64_t position = 0;
  for (const StageState& stage : pipeline.stages) {
    write_stage(pipeline.name, position++, stage);
    for (const AttemptState& attempt : stage.attempts) write_attempt(pipeline.name, stage.name, attempt);
  }
  transaction.commit();
}

void Store::save_stage(const std::string& pipeline, const StageState& stage) {
  Transaction transaction(database_);
  write_stage(pipeline, 0, stage);  // its position was given by save() and stays
  if (!stage.attempts.empty()) write_attempt(pipeline, stage.name, stage.attempts.back());
  transaction.commit();
}

void Store::remove(const std::string& pipeline) {
  database_.run("DELETE FROM pipelines WHERE name = ?", {pipeline});
}

void Store::write_stage(const std::string& pipeline, std::int64_t position, const StageState& stage) {
  database_.run(
      "INSERT INTO stages(pipeline, position, name, status, reason, counted_after, restarts, checkpoint_step,"
      " backoff_ms, progress, results, export_path) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
      " ON CONFLICT(pipeline, name) DO UPDATE SET status = excluded.status, reason = excluded.reason,"
      " counted_after = excluded.counted_after, restarts = excluded.restarts,"
      " checkpoint_step = excluded.checkpoint_step, backoff_ms = excluded.backoff_ms, progress = "
      "excluded.progress,"
      " results = excluded.results, export_path = excluded.export_path",
      {pipeline, position, stage.name, to_string(stage.status), stage.reason, stage.counted_after,
       stage.restarts, stage.checkpoint_step, std::int64_t{stage.backoff.count()},
       nlohmann::json(stage.progress).dump(), nlohmann::json(stage.results).dump(), stage.export_path});
}

void Store::write_attempt(const std::string& pipeline, const std::string& stage,
                          const AttemptState& attempt) {
  database_.run(
      "INSERT INTO attempts(pipeline, stage, number, uuid, token, status, stop, stop_cause, stop_reason, "
      "end, reason,"
      " exit_code, step, seconds, started_unix) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
      " ON CONFLICT(pipeline, stage, number) DO UPDATE SET status = excluded.status, stop = excluded.stop,"
      " stop_cause = excluded.stop_cause, stop_reason = excluded.stop_reason, end = excluded.end,"
      " reason = excluded.reason, exit_code = excluded.exit_code, step = excluded.step, seconds = "
      "excluded.seconds",
      {pipeline, stage, attempt.number, attempt.uuid, attempt.token, to_string(attempt.status),
       to_string(attempt.stop), to_string(attempt.stop_cause), attempt.stop_reason, to_string(attempt.end),
       attempt.reason, std::int64_t{attempt.exit_code}, attempt.step, attempt.seconds, attempt.started_unix});
}

}  // namespace cosub::coordinator
