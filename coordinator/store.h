// The coordinator's only memory: pipelines, stages and attempts in one SQLite file. Every save is one
// transaction, on disk when it returns. Called on the strand that owns the state. Errors are IoError (may
// pass) or DataError (damaged, newer).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "coordinator/database.h"
#include "coordinator/state.h"

namespace cosub::coordinator {

class Store {
 public:
  static constexpr std::int64_t kSchemaVersion = 1;

  /// Opens or creates `file`, and raises the generation.
  explicit Store(const std::filesystem::path& file);

  /// How often this memory was opened: 1 at the first start.
  std::int64_t generation() const { return generation_; }

  /// All pipelines in the order of their submission. `config` is left empty: the caller parses `yaml`.
  std::vector<PipelineState> load();

  /// All of it: stages and attempts that it no longer has are gone.
  void save(const PipelineState& pipeline);
  /// The stage and its last attempt; the pipeline's own row stays.
  void save_stage(const std::string& pipeline, const StageState& stage);
  void remove(const std::string& pipeline);

 private:
  void write_stage(const std::string& pipeline, std::int64_t position, const StageState& stage);
  void write_attempt(const std::string& pipeline, const std::string& stage, const AttemptState& attempt);

  Database database_;
  std::int64_t generation_ = 0;
};

}  // namespace cosub::coordinator
